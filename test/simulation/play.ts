import { PATHS, Storm } from './storm.js';
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
    host.thaw();
    if (host.daemon?.isStopping === true) host.killDaemon();
    world.start(host);
  }
  world.share();
  await world.run(1000);
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
