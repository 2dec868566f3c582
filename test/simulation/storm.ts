import type { SimHost } from './sim-host.js';
import { MINUTE, type World } from './world.js';

export const PATHS = ['a.json', 'b.json', 'c.json'];

type Fault = readonly [weight: number, run: (host: SimHost) => void];

/** What goes wrong, and what people and clients do, at random. */
export class Storm {
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
          host.vanish();
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
        0.8,
        (host) => {
          const { daemon } = host;
          if (daemon === undefined || daemon.process.isFrozen) return;
          world.say(`${host.name} daemon frozen, and replaced`);
          daemon.process.isFrozen = true;
          later(some(15_000, MINUTE, 4 * MINUTE), () => {
            if (host.daemon === daemon && daemon.process.isFrozen) host.overtakeDaemon();
          });
          later(some(20_000, 3 * MINUTE, 10 * MINUTE), () => {
            host.thawDaemon(daemon);
          });
        },
      ],
      [
        0.2,
        (host) => {
          world.eject(host);
          later(some(5 * MINUTE, 20 * MINUTE), () => {
            world.share();
          });
        },
      ],
      [
        0.5,
        (host) => {
          world.garble(host, path());
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
