import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals';
import {
  cleanTemporaryDirectories,
  CliProxyProcess,
  DaemonProcess,
  ProviderServer,
  runCommand,
  SilentProxy,
  temporaryDirectory,
  until,
  type Flavour,
} from '@tokenmirror/testkit';
import { STORE_PLACES, STORE_SERVERS, type StoreKind, type StorePlace, type StoreServer } from '../store-places.js';

/** As many refreshes as it says, instead of those of a test run. */
const WANTED = process.env['TOKENMIRROR_TEST_CUSTODY_ROTATIONS'];
/** A refresh takes so long at most, on a busy machine. */
const ROTATION_MS = 5000;
/** A visit that its proxy does not answer is over after 150 s. */
const SETTLED_MS = 300_000;
/** How long nothing is due while a guest comes: git lets one of many writers in at a time, and with a write of others every moment it waits for long. */
const CALM_S = 20;
/** Several visits fall due meanwhile; longer than the daemon waits for an answer of its store. */
const CUT_OFF_MS = 15_000;
const FLAVOURS: readonly Flavour[] = ['7.2', '6.9', '7.2'];
/** What CLIProxyAPI and custody together leave of a lifetime, in seconds; what is more falls due after so long. */
const LEAD_S = 4 * 3600 + 600;

export interface CustodyOptions {
  readonly credentials: number;
  /** Refreshes in the run without faults. */
  readonly rotations: number;
}

interface Replica {
  readonly daemon: DaemonProcess;
  readonly cpa: CliProxyProcess;
}

/** Real daemons beside emulated CLIProxyAPIs share credentials through one store, and no refresh token is used twice. */
export function describeCustody(kind: StoreKind, { credentials, rotations: wanted }: CustodyOptions): void {
  const count = Number(WANTED ?? wanted);
  describe(`custody on ${kind}`, () => {
    jest.setTimeout(2 * SETTLED_MS + count * ROTATION_MS);
    let place: StorePlace;
    let server: ProviderServer;
    let replicas: Replica[];
    let isOver: boolean;
    let clients: Promise<void>[];
    let answers: Map<number, number>;

    beforeEach(async () => {
      place = await STORE_PLACES[kind]();
      server = await ProviderServer.start();
      replicas = [];
      isOver = false;
      clients = [];
      answers = new Map();
    });

    afterEach(async () => {
      isOver = true;
      await Promise.all(clients);
      for (const { daemon, cpa } of replicas) {
        daemon.resume();
        await daemon.kill();
        await cpa.end('SIGKILL');
      }
      await server.stop();
      await place.destroy();
    });

    afterAll(cleanTemporaryDirectories);

    async function joined(flavour: Flavour, environment = place.environment): Promise<Replica> {
      const workspace = temporaryDirectory('custody');
      const cpa = new CliProxyProcess({ flavour, workspace, proxyUrl: server.url('http'), authorityFile: server.authorityFile });
      const daemon = new DaemonProcess(workspace, ['--custody', 'on', '--filesystem-shared'], environment);
      await cpa.start();
      await daemon.start();
      const replica = { daemon, cpa };
      replicas.push(replica);
      return replica;
    }

    /** As Kubernetes stops a pod: the daemon is given the time that its visits take, and its CLIProxyAPI answers meanwhile. */
    async function left(replica: Replica): Promise<void> {
      expect(await replica.daemon.stop()).toBe(0);
      await replica.cpa.end('SIGTERM');
      replicas = replicas.filter((each) => each !== replica);
    }

    /** A login that nobody's proxy knows yet, as after a migration. */
    async function store(n: number): Promise<void> {
      const email = `user-${String(n)}@example.com`;
      const { access_token, refresh_token, expires_in } = server.provider.issue('claude', email);
      const instant = (ms: number): string => new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z');
      const expired = instant(Date.now() + expires_in * 1000);
      const fields = { type: 'claude', email, access_token, refresh_token, expired, last_refresh: instant(Date.now()), disabled: false };
      await place.foreignWrite(`auths/claude-${email}.json`, JSON.stringify(fields));
    }

    const credentialsAt = ({ cpa }: Replica) =>
      Array.from({ length: credentials }, (_, n) => cpa.credential(`claude-user-${String(n)}@example.com.json`));

    const isSealed = (replica: Replica): boolean =>
      credentialsAt(replica).every(
        (fields) => fields !== undefined && fields['access_token'] !== undefined && fields['refresh_token'] === undefined,
      );

    const isSame = (): boolean => {
      const [first, ...rest] = replicas.map((replica) => JSON.stringify(credentialsAt(replica).map((fields) => fields?.['access_token'])));
      return rest.every((tokens) => tokens === first);
    };

    function load({ cpa }: Replica): void {
      const client = async (): Promise<void> => {
        while (!isOver) {
          const answer = await cpa.message('claude').catch(() => undefined);
          if (answer !== undefined) answers.set(answer.status, (answers.get(answer.status) ?? 0) + 1);
          await delay(30);
        }
      };
      clients.push(client());
    }

    async function rotations(more: number): Promise<void> {
      const { counts } = server.provider;
      const wanted = counts.rotations + more;
      await until(`${String(more)} more refreshes`, () => counts.rotations >= wanted, 60_000 + more * ROTATION_MS);
    }

    async function settled(): Promise<void> {
      server.provider.lifetimes.claude = 8 * 3600;
      await until('every file is sealed, and the same everywhere', () => replicas.every(isSealed) && isSame(), SETTLED_MS);
      expect(server.provider.counts.reuses).toBe(0);
      for (const fields of credentialsAt(replicas[0] as Replica))
        expect(server.provider.isAlive(String(fields?.['access_token']))).toBe(true);
    }

    test('three replicas refresh what they share, without a token used twice or a request that fails', async () => {
      server.provider.lifetimes.claude = LEAD_S + 4;
      for (let n = 0; n < credentials; n += 1) await store(n);
      const first = await joined(FLAVOURS[0] ?? '7.2');
      for (const flavour of FLAVOURS.slice(1)) await joined(flavour);
      await until('every replica has them, sealed', () => replicas.every(isSealed));
      for (const replica of replicas) load(replica);
      await rotations(count);
      await settled();
      expect([...answers.keys()]).toEqual([200]);

      const shown = await runCommand(
        ['custody', 'status', '--json', '--workspace', first.daemon.workspace, '--custody', 'on'],
        place.environment,
      );
      expect(JSON.parse(shown.stdout)).toMatchObject({ mode: { mode: 'shared' } });
      for (const { daemon } of replicas) {
        const whole = daemon.output + shown.stdout;
        for (const n of Array.from({ length: credentials }).keys())
          for (const token of server.provider.tokensOf(`user-${String(n)}@example.com`)) expect(whole).not.toContain(token);
      }
    });

    test('daemons and proxies that are killed, frozen, cut off and restarted, and replicas that come and go, cost no login', async () => {
      await place.destroy();
      const own: StoreServer = await STORE_SERVERS[kind]();
      place = own;
      if (own.network === undefined) throw new Error(`nothing can be cut off on ${kind}`);
      const { port, environmentAt } = own.network;
      const wires: SilentProxy[] = [];
      try {
        server.provider.lifetimes.claude = LEAD_S + 4;
        for (let n = 0; n < credentials; n += 1) await store(n);
        for (const flavour of FLAVOURS) {
          const wire = await SilentProxy.before(port);
          wires.push(wire);
          await joined(flavour, environmentAt(wire.port));
        }
        await until('every replica has them, sealed', () => replicas.every(isSealed));
        const step = Math.max(4, Math.round(count / 15));
        for (const [n, { daemon, cpa }] of [...replicas].entries()) {
          await rotations(step);
          await daemon.kill();
          await daemon.start();
          daemon.freeze();
          await delay(3000);
          daemon.resume();
          await rotations(step);
          await cpa.end('SIGTERM');
          await delay(500);
          await cpa.restart();
          wires[n]?.goSilent();
          await delay(CUT_OFF_MS);
          wires[n]?.cutAll();
          wires[n]?.speak();
          if (n > 0) continue;
          server.provider.lifetimes.claude = LEAD_S + CALM_S;
          await rotations(credentials);
          const guest = await joined('7.2');
          await until('the guest has them, sealed', () => isSealed(guest));
          server.provider.lifetimes.claude = LEAD_S + 4;
          await rotations(step);
          await left(guest);
        }
        await settled();
      } finally {
        for (const wire of wires) await wire.close();
      }
    });
  });
}
