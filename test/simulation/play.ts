import type { SimHost } from './sim-host.js';
import { HOUR, MINUTE, World, type Cause, type Failure, type WorldOptions } from './world.js';

export interface Outcome {
  readonly seed: number;
  readonly failures: readonly Failure[];
  readonly causes: ReadonlyMap<Cause, number>;
  readonly rotations: number;
  readonly reuses: number;
  readonly answers: ReadonlyMap<number, number>;
  readonly events: ReadonlyMap<string, number>;
}

export interface PlayOptions {
  readonly trace?: (line: string) => void;
  /** How long things go wrong, in virtual ms. */
  readonly storm?: number;
}

const PATHS = ['a.json', 'b.json', 'c.json'];

/** One random schedule, from a seed alone. */
export async function play(seed: number, { trace, storm = 90 * MINUTE }: PlayOptions = {}): Promise<Outcome> {
  const options: WorldOptions = { seed, custody: seed % 3 === 0 ? 'auto' : 'on', flavour: seed % 2 === 0 ? '6.9' : '7.2', trace };
  const world = new World(options);
  const { random } = world;
  const count = 2 + Math.floor(random() * 3);
  const skews = random() < 0.3;
  for (let n = 0; n < count; n += 1)
    world.addHost({ skewMs: skews ? Math.round((random() - 0.5) * 2 * HOUR) : 0, isRefresher: n === 0 || random() > 0.1 });
  const [first] = world.hosts;
  if (first === undefined) throw new Error('no host');
  world.liveFor((2 + random() * 10) * MINUTE);
  world.start(first);
  await world.run(2000);
  for (const path of PATHS.slice(0, 1 + Math.floor(random() * 3))) world.login(first, path);
  for (const host of world.hosts.slice(1)) {
    await world.run(random() * 20_000);
    world.start(host);
  }
  new Storm(world, world.time.now + storm).begin();
  await world.run(storm);
  await rest(world);
  return {
    seed,
    failures: world.failures,
    causes: world.causes,
    rotations: world.provider.provider.counts.rotations,
    reuses: world.provider.provider.counts.reuses,
    answers: world.answers,
    events: world.events,
  };
}

/** Everything is mended, and what is left has time to settle. */
async function rest(world: World): Promise<void> {
  world.say('rest');
  world.server.isDown = false;
  Object.assign(world.provider.trouble, { lostRequests: 0, lostReplies: 0, slowMs: 0 });
  Object.assign(world.provider.provider.trouble, { tokenDelayMs: 0, tokenErrors: { status: 503, times: 0 } });
  for (const host of world.living) {
    Object.assign(host.weather, { isCut: false, lostRequests: 0, lostReplies: 0 });
    for (const { process } of [host.daemon, host.proxy].filter((each) => each !== undefined)) if (process.isFrozen) process.thaw();
    if (host.daemon?.isStopping === true) host.killDaemon();
    world.start(host);
  }
  const isHeldByOthers = world.heldClaims.some(({ replica }) => !world.living.some(({ name }) => name === replica));
  await world.run(isHeldByOthers ? 7 * HOUR : 20 * MINUTE);
  world.liveFor(8 * HOUR);
  await world.run(20 * MINUTE);
  for (
    let n = 0;
    n < 30 && world.restoredAt === undefined && world.heldClaims.some(({ replica }) => world.living.some(({ name }) => name === replica));
    n += 1
  )
    await world.run(MINUTE);
  world.checkRest();
  const writes = world.server.writes;
  await world.run(3 * MINUTE);
  const isTried = world.paths.some((path) => world.stored(path) !== undefined && world.isDead(path));
  if (world.server.writes !== writes && !isTried) world.fail(`${String(world.server.writes - writes)} writes while nothing happens`);
}

type Fault = readonly [weight: number, run: (host: SimHost) => void];

/** What goes wrong, and what people and clients do, at random. */
class Storm {
  readonly #world: World;
  readonly #end: number;
  readonly #mayRestore: boolean;

  constructor(world: World, end: number) {
    this.#world = world;
    this.#end = end;
    this.#mayRestore = world.options.seed % 10 === 0;
  }

  begin(): void {
    this.#repeat(
      () => 5000 + this.#world.random() * 40_000,
      () => {
        this.#fault();
      },
    );
    for (const host of this.#world.hosts) {
      const pace = 2000 + this.#world.random() * 30_000;
      this.#repeat(
        () => this.#world.random() * 2 * pace,
        () => void this.#world.clientAsks(host),
      );
    }
  }

  #repeat(pause: () => number, run: () => void): void {
    const { time } = this.#world;
    time.after(pause(), () => {
      if (time.now >= this.#end) return;
      run();
      this.#repeat(pause, run);
    });
  }

  #fault(): void {
    const world = this.#world;
    const hosts = world.living;
    const host = hosts[Math.floor(world.random() * hosts.length)];
    if (host === undefined) return;
    const faults = this.#faults();
    let at = world.random() * faults.reduce((sum, [weight]) => sum + weight, 0);
    for (const [weight, run] of faults) {
      at -= weight;
      if (at > 0) continue;
      run(host);
      return;
    }
  }

  #faults(): readonly Fault[] {
    const world = this.#world;
    const { random, time, server, provider } = world;
    const later = (ms: number, run: () => void): void => {
      time.after(ms, run);
    };
    const some = (...choices: number[]): number => (choices[Math.floor(random() * choices.length)] ?? 0) * (0.5 + random());
    const path = (): string => {
      const all = [...new Set([...PATHS, ...world.paths])];
      return all[Math.floor(random() * all.length)] ?? 'a.json';
    };
    return [
      [
        4,
        (host) => {
          world.say(`${host.name} daemon killed`);
          host.killDaemon();
          later(some(1000, 20_000, 5 * MINUTE), () => {
            if (host.isUp) host.startDaemon();
          });
        },
      ],
      [
        3,
        (host) => {
          world.say(`${host.name} proxy killed`);
          host.killProxy();
          later(some(1000, 20_000, 3 * MINUTE), () => {
            if (host.isUp) host.startProxy();
          });
        },
      ],
      [
        2,
        (host) => {
          world.say(`${host.name} both killed`);
          host.killDaemon();
          host.killProxy();
          later(some(1000, 20_000, 20 * MINUTE), () => {
            if (host.isUp) world.start(host);
          });
        },
      ],
      [
        2,
        (host) => {
          world.say(`${host.name} daemon stopped`);
          void host.stopDaemon();
          later(some(5000, MINUTE), () => {
            if (host.isUp) host.startDaemon();
          });
        },
      ],
      [
        4,
        (host) => {
          const { daemon, proxy } = host;
          const frozen = [daemon, proxy].filter((each) => each !== undefined && random() < 0.7);
          world.say(`${host.name} frozen: ${String(frozen.includes(daemon))} ${String(frozen.includes(proxy))}`);
          for (const each of frozen) if (each !== undefined) each.process.isFrozen = true;
          later(some(2000, 10_000, 3 * MINUTE, 10 * MINUTE), () => {
            for (const each of frozen) each?.process.thaw();
          });
        },
      ],
      [
        4,
        (host) => {
          world.say(`${host.name} cut off`);
          host.weather.isCut = true;
          later(some(3000, 30_000, 8 * MINUTE), () => {
            host.weather.isCut = false;
          });
        },
      ],
      [
        3,
        (host) => {
          const lossy = { lostRequests: random() * 0.2, lostReplies: random() * 0.3 };
          world.say(`${host.name} lossy`);
          Object.assign(host.weather, lossy);
          later(some(30_000, 5 * MINUTE), () => {
            Object.assign(host.weather, { lostRequests: 0, lostReplies: 0 });
          });
        },
      ],
      [
        1,
        () => {
          world.say('store down');
          server.isDown = true;
          later(some(5000, MINUTE, 6 * MINUTE), () => {
            server.isDown = false;
          });
        },
      ],
      [
        2,
        () => {
          world.say('provider in trouble');
          Object.assign(provider.trouble, {
            lostRequests: random() * 0.3,
            lostReplies: random() < 0.3 ? random() * 0.3 : 0,
            slowMs: some(0, 1000, 20_000),
          });
          provider.provider.trouble.tokenErrors = { status: 503, times: Math.floor(random() * 3) };
          later(some(MINUTE, 5 * MINUTE), () => {
            Object.assign(provider.trouble, { lostRequests: 0, lostReplies: 0, slowMs: 0 });
          });
        },
      ],
      [
        world.options.seed % 5 === 0 ? 1 : 0,
        (host) => {
          if (world.living.length < 3) return;
          world.say(`${host.name} vanishes`);
          host.killDaemon();
          host.killProxy();
          host.isVanished = true;
        },
      ],
      [
        0.4,
        (host) => {
          if (world.living.length < 3) return;
          world.say(`${host.name} leaves`);
          host.hasLeft = true;
          void host.stopDaemon();
          host.killProxy();
        },
      ],
      [
        0.6,
        () => {
          if (world.hosts.length > 6) return;
          const host = world.addHost();
          world.say(`${host.name} joins`);
          world.start(host);
        },
      ],
      [
        0.6,
        (host) => {
          world.say(`${host.name} loses its state`);
          host.killDaemon();
          host.loseState();
          host.startDaemon();
        },
      ],
      [
        0.3,
        (host) => {
          const old = world.logins[Math.floor(random() * world.logins.length)];
          if (old === undefined) return;
          world.copied.add((JSON.parse(old.text) as { refresh_token: string }).refresh_token);
          world.copyIn(host, old.path, old.text);
        },
      ],
      [
        0.5,
        (host) => {
          world.login(host, 'd.json');
          const login = world.logins.at(-1);
          if (login !== undefined)
            later(random() * 5000, () => {
              if (host.isUp) world.copyIn(host, 'twin.json', login.text);
            });
        },
      ],
      [
        this.#mayRestore ? 0.3 : 0,
        () => {
          const copy = server.copy();
          later(some(MINUTE, 20 * MINUTE), () => {
            world.say('the store goes back in time');
            world.restoredAt = time.now;
            server.restore(copy);
          });
        },
      ],
      [
        8,
        (host) => {
          world.edit(host, path());
        },
      ],
      [
        1,
        (host) => {
          world.deleteFile(host, path());
        },
      ],
      [
        2,
        (host) => {
          world.login(host, path());
        },
      ],
      [
        6,
        (host) => {
          const pace = some(5, 50);
          for (let n = 0; n < 60; n += 1) later(n * pace, () => void world.clientAsks(host));
        },
      ],
    ];
  }
}
