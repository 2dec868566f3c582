import { existsSync, readFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { explain, ManagementClient } from '@tokenmirror/cliproxy-client';
import { messageOf, TokenmirrorError } from '@tokenmirror/core';
import { lockOwner, replaceFile } from '@tokenmirror/files';
import {
  exportText,
  isSentinel,
  isTemplate,
  KeySync,
  maskOf,
  readAccessManager,
  readApiKeys,
  readExport,
  WantedSource,
  type ApiKey,
  type ImportResult,
  type KeyRegistry,
  type NewKey,
  type SyncOutcome,
} from '@tokenmirror/key-expiry';
import { keyTargets, type KeyTarget } from '../companions/key-companion.js';
import { openKeyRegistry } from '../companions/open-registry.js';
import { readReport } from '../daemon/status-file.js';
import { managementBeside } from '../neighbour/neighbour-config.js';
import { RefusedKeysFile } from '../neighbour/refused-keys-file.js';
import type { Settings } from '../options/settings.js';
import type { ReplicaFactory } from '../replica-factory.js';
import { systemClock } from '../system-clock.js';

/** How a change reached one CLIProxyAPI. */
export interface Applied {
  readonly target: string;
  readonly status: 'applied' | 'waiting' | 'failed';
  readonly reason?: string;
}

export interface ForeignKeys {
  readonly target: string;
  /** Masks of what is, or would be, taken over. */
  readonly keys: readonly string[];
}

const PATIENCE_MS = 10_000;
const LOOK_MS = 100;

/** The registry of keys, as a command works on it. */
export class KeysCommand {
  readonly registry: KeyRegistry;
  readonly #settings: Settings;
  readonly #replicas: ReplicaFactory;

  private constructor(registry: KeyRegistry, settings: Settings, replicas: ReplicaFactory) {
    this.registry = registry;
    this.#settings = settings;
    this.#replicas = replicas;
  }

  /** Opens the registry for one piece of work. @throws TokenmirrorError STORE_UNREACHABLE, STORE_DENIED, and those of the work */
  static async use<T>(replicas: ReplicaFactory, settings: Settings, work: (keys: KeysCommand) => Promise<T>): Promise<T> {
    const registry = await openKeyRegistry(settings, replicas.locations());
    try {
      return await work(new KeysCommand(registry, settings, replicas));
    } finally {
      await registry.close();
    }
  }

  /** Who calls the command, for the audit log. */
  get actor(): string {
    try {
      return `cli:${userInfo().username}`;
    } catch {
      return `cli:uid-${String(process.getuid?.() ?? 'unknown')}`;
    }
  }

  /** Sees to it that a change reaches CLIProxyAPI: the daemon of this workspace does it, or this process where none runs. */
  async apply(): Promise<readonly Applied[]> {
    if (await this.#hasDaemon()) return this.#awaitDaemon(await this.registry.revision());
    return this.#withTargets(async (syncs) => Promise.all(syncs.map(async (sync) => appliedOf(sync.target, await sync.run()))));
  }

  /** The same, where nothing changed in the registry. */
  async sync(): Promise<readonly Applied[]> {
    await this.registry.nudge();
    return this.apply();
  }

  /** What a sync would do at each CLIProxyAPI. */
  plan(): Promise<readonly (SyncOutcome & { readonly target: string })[]> {
    return this.#withTargets((syncs) => Promise.all(syncs.map(async (sync) => ({ ...(await sync.plan()), target: sync.target }))));
  }

  /** Takes over the keys that CLIProxyAPI has and nobody registered, or those with these masks. @throws TokenmirrorError OPTION_INVALID, KEY_REFUSED */
  async adopt(wish: Omit<NewKey, 'key'>, masks: readonly string[], isDry: boolean): Promise<readonly ForeignKeys[]> {
    const targets = this.#targets();
    const adopted: ForeignKeys[] = [];
    try {
      for (const { name, client } of targets) {
        const current = await readApiKeys(client);
        if (!current.ok) {
          const { reason, remedy } = explain(current.refusal);
          throw new TokenmirrorError('KEY_REFUSED', `the keys cannot be read: ${reason}`, remedy);
        }
        const known = new Set((await this.registry.wanted()).keys.map(({ hash }) => hash));
        const keys = current.value.filter(
          (key) =>
            !known.has(this.registry.secrets.hashOf(key)) &&
            !isTemplate(key) &&
            !isSentinel(key) &&
            (masks.length === 0 || masks.includes(maskOf(key))),
        );
        if (!isDry) await this.registry.adopt(this.actor, keys, wish);
        adopted.push({ target: name, keys: keys.map(maskOf) });
      }
    } finally {
      for (const { client } of targets) client.close();
    }
    return adopted;
  }

  /** From an export, or the database of cliproxy-access-manager. @throws TokenmirrorError KEY_INVALID */
  async import(file: string): Promise<ImportResult> {
    if (!existsSync(file)) throw new TokenmirrorError('KEY_INVALID', `there is no file ${file}`, 'Check its path.');
    return this.registry.import(this.actor, (await readAccessManager(file)) ?? readExport(textOf(file)));
  }

  /** The keys as text; in clear where that is said, and then the file is for its owner alone. */
  async export({ file, isClear }: { readonly file: string | undefined; readonly isClear: boolean }): Promise<string> {
    const keys: readonly (ApiKey & { readonly key?: string | undefined })[] = isClear
      ? await this.registry.inClear()
      : (await this.registry.list()).items;
    const text = exportText(keys);
    if (isClear) await this.registry.audit.note(this.actor, 'export', 'ok', `${String(keys.length)} keys in clear`);
    if (file !== undefined) await replaceFile(file, text);
    return text;
  }

  /** Whether a daemon of this workspace looks after the keys; one without a management key, or with `keys: no`, does not. */
  async #hasDaemon(): Promise<boolean> {
    const { stateDir } = this.#replicas.locations();
    const owner = await lockOwner(stateDir);
    const report = await readReport(stateDir);
    return owner !== undefined && report?.pid === owner.pid && (report.keys?.targets.length ?? 0) > 0;
  }

  async #awaitDaemon(revision: number): Promise<readonly Applied[]> {
    const until = performance.now() + PATIENCE_MS;
    const asked = Date.now();
    const replica = this.#replicas.workspace().replicaId ?? '';
    for (;;) {
      const ours = (await this.registry.targets.list()).filter(({ target }) => target.startsWith(`${replica} `));
      const isDone = ours.length > 0 && ours.every((each) => each.revision >= revision || (each.problem !== undefined && each.at >= asked));
      if (isDone || performance.now() >= until)
        return ours.map(({ target, problem, revision: reached }) => ({
          target,
          status: problem !== undefined ? 'failed' : reached >= revision ? 'applied' : 'waiting',
          ...(problem === undefined ? {} : { reason: problem }),
        }));
      await delay(LOOK_MS);
    }
  }

  async #withTargets<T>(work: (syncs: readonly KeySync[]) => Promise<readonly T[]>): Promise<readonly T[]> {
    if (this.#settings['management-key'] === undefined) return [];
    const targets = this.#targets();
    const replica = this.#replicas.workspace().replicaId ?? 'cli';
    const { registry } = this;
    const wanted = new WantedSource(registry, systemClock);
    try {
      return await work(
        targets.map(({ name, client }) => new KeySync({ registry, wanted, client, clock: systemClock, target: `${replica} ${name}` })),
      );
    } finally {
      for (const { client } of targets) client.close();
    }
  }

  /** @throws TokenmirrorError OPTION_INVALID */
  #targets(): readonly KeyTarget[] {
    const { 'management-key': key, 'cliproxy-url': url } = this.#settings;
    if (key === undefined)
      throw new TokenmirrorError('OPTION_INVALID', 'there is no management key, so CLIProxyAPI cannot be asked', 'Set CLIPROXY_MGMT_KEY.');
    const { configFile, stateDir } = this.#replicas.locations();
    const refusedKeys = new RefusedKeysFile(stateDir);
    const beside = new ManagementClient({ target: () => managementBeside(configFile, url, key), clock: systemClock, refusedKeys });
    return keyTargets(this.#settings, beside, refusedKeys);
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new TokenmirrorError('KEY_INVALID', `${file} cannot be read (${messageOf(cause)})`, 'Check its rights.', { cause });
  }
}

function appliedOf(target: string, outcome: SyncOutcome): Applied {
  if (outcome.status === 'failed') return { target, status: 'failed', reason: outcome.reason };
  return { target, status: 'applied' };
}
