import { beforeEach, describe, expect, test } from '@jest/globals';
import type { SimHost } from './sim-host.js';
import { HOUR, MINUTE, World } from './world.js';

const A = 'a.json';

let world: World;
let one: SimHost;
let two: SimHost;

/** Two replicas that share one credential, at rest: far from due, no claim held. */
async function sharing(custody: 'auto' | 'on' = 'on', flavour: '6.9' | '7.2' = '7.2'): Promise<void> {
  world = new World({ seed: 5, custody, flavour });
  world.liveFor(20 * MINUTE);
  one = world.addHost();
  two = world.addHost();
  world.start(one);
  await world.run(2000);
  world.login(one, A);
  await world.run(2000);
  world.start(two);
  await world.run(6 * MINUTE);
}

const fieldsAt = (host: SimHost): Record<string, unknown> => JSON.parse(host.disk.read(A) ?? '{}') as Record<string, unknown>;
const isSealed = (host: SimHost): boolean => fieldsAt(host)['access_token'] !== undefined && fieldsAt(host)['refresh_token'] === undefined;
const token = (): string => String(world.stored(A)?.['refresh_token']);
const rotations = (): number => world.provider.provider.counts.rotations;

/** Lets time pass until something is so. */
async function until(what: string, condition: () => boolean, ms = HOUR): Promise<void> {
  for (let passed = 0; passed < ms; passed += 1) {
    if (condition()) return;
    await world.run(1);
  }
  throw new Error(`did not happen: ${what}`);
}

/** The replica whose proxy has a refresh under way. */
async function inRefresh(): Promise<SimHost> {
  await until('a refresh is under way', () => world.provider.inFlight.size > 0);
  const [[presentation] = []] = [...world.provider.inFlight];
  return presentation?.host === one.name ? one : two;
}

/** All is as it has to be after everything. */
async function rest(ms = 20 * MINUTE): Promise<void> {
  await world.run(ms);
  world.liveFor(8 * HOUR);
  await world.run(25 * MINUTE);
  world.checkRest();
  expect(world.failures).toEqual([]);
}

describe('two replicas that share a credential', () => {
  beforeEach(() => sharing());

  test('refresh it again and again, and it is whole nowhere in between', async () => {
    expect([isSealed(one), isSealed(two), world.heldClaims]).toEqual([true, true, []]);
    const before = token();
    await until('five refreshes', () => rotations() >= 5, 3 * HOUR);
    await world.run(5000);
    expect(token()).not.toBe(before);
    expect([isSealed(one), isSealed(two)]).toEqual([true, true]);
    expect(fieldsAt(one)['access_token']).toBe(fieldsAt(two)['access_token']);
    await rest();
    expect(world.provider.provider.counts.reuses).toBe(0);
  });

  test('incident 40: a refresh token that comes back from the memory of the proxy is sealed again, and counted', async () => {
    const whole = JSON.stringify(world.stored(A));
    await until('a visit is over, and watched', () => world.heldClaims.some(({ state }) => state === 'sealed'), HOUR);
    const host = world.heldClaims[0]?.replica === one.name ? one : two;
    expect(host.proxy).toBeDefined();
    const current = JSON.stringify({ ...(JSON.parse(whole) as object), ...world.stored(A) });
    if (host.proxy !== undefined) host.disk.writeInPlace(A, current, host.proxy.process);
    await world.run(1000);
    expect(isSealed(host)).toBe(true);
    expect(host.daemon?.custodian.status.counts.echoes).toBe(1);
    await rest();
  });

  test('incident 41: a daemon dies in the middle of a visit while its proxy lives on; nobody touches the token, and a restart collects it', async () => {
    const host = await inRefresh();
    host.killDaemon();
    await world.run(30 * MINUTE);
    expect([rotations(), world.heldClaims.map(({ replica, state }) => [replica, state])]).toEqual([1, [[host.name, 'open']]]);
    host.startDaemon();
    await world.run(MINUTE);
    expect(isSealed(host)).toBe(true);
    expect(world.provider.provider.isCurrent(token())).toBe(true);
    await rest();
    expect(world.provider.provider.counts.reuses).toBe(0);
  });

  test('a proxy that was frozen in the middle of a refresh writes the new grant when it thaws, long after its file was sealed', async () => {
    const host = await inRefresh();
    if (host.proxy !== undefined) host.proxy.process.isFrozen = true;
    await world.run(20 * MINUTE);
    expect(isSealed(host)).toBe(true);
    expect(rotations()).toBe(1);
    host.proxy?.process.thaw();
    await world.run(MINUTE);
    expect(world.provider.provider.isCurrent(token())).toBe(true);
    await rest();
    expect(world.provider.provider.counts.reuses).toBe(0);
  });

  test('a daemon and its proxy that are frozen together for an hour find their claim as they left it', async () => {
    const host = await inRefresh();
    for (const process of [host.daemon?.process, host.proxy?.process]) if (process !== undefined) process.isFrozen = true;
    await world.run(HOUR);
    expect(rotations()).toBeLessThanOrEqual(1);
    for (const process of [host.daemon?.process, host.proxy?.process]) process?.thaw();
    await rest();
    expect(world.provider.provider.counts.reuses).toBe(0);
  });

  test('a deletion during a visit wins, and the new grant is in the history', async () => {
    world.provider.provider.trouble.tokenDelayMs = 10_000;
    const host = await inRefresh();
    world.deleteFile(host === one ? two : one, A);
    await rest();
    expect(world.stored(A)).toBeUndefined();
    expect([one.disk.read(A), two.disk.read(A)]).toEqual([undefined, undefined]);
  });

  test('an edit during a visit survives it', async () => {
    const host = await inRefresh();
    world.edit(host === one ? two : one, A);
    await rest();
    expect(world.stored(A)?.['note']).toMatch(/^note-/);
  });

  test('a login elsewhere during a visit is a fork: one of the two wins everywhere', async () => {
    const host = await inRefresh();
    world.login(host === one ? two : one, A);
    await rest();
    expect(world.provider.provider.isCurrent(token())).toBe(true);
  });

  test('a replica that vanishes for ever in the middle of a visit is taken over, hours later', async () => {
    const host = await inRefresh();
    host.killDaemon();
    host.killProxy();
    host.isVanished = true;
    await world.run(90 * MINUTE);
    expect(world.events.get('claim-taken-over')).toBeUndefined();
    await world.run(8 * HOUR);
    expect(world.events.get('claim-taken-over')).toBe(1);
  });

  test('two files of one account have one claim: one is visited, both get the new grant', async () => {
    const login = world.logins[0];
    if (login === undefined) throw new Error('no login');
    two.disk.put('twin.json', JSON.stringify({ ...world.stored(A) }));
    world.copied.add(token());
    await until('a refresh', () => rotations() >= 2, 2 * HOUR);
    await world.run(5000);
    expect(world.stored('twin.json')?.['refresh_token']).toBe(token());
    await rest();
    expect(world.provider.provider.counts.reuses).toBe(0);
  });
});

describe('from alone to shared', () => {
  test('the first one hands over before anybody else refreshes', async () => {
    await sharing('auto');
    expect(world.mode).toMatchObject({ mode: 'shared' });
    expect(world.mode?.handover).toBeUndefined();
    expect([isSealed(one), isSealed(two)]).toEqual([true, true]);
    await rest();
  });

  test('a lone replica that is cut off keeps every token, whoever joins meanwhile', async () => {
    world = new World({ seed: 5, custody: 'auto', flavour: '7.2' });
    world.liveFor(20 * MINUTE);
    one = world.addHost();
    two = world.addHost();
    world.start(one);
    await world.run(2000);
    world.login(one, A);
    await world.run(MINUTE);
    expect(isSealed(one)).toBe(false);
    one.weather.isCut = true;
    world.start(two);
    await world.run(2 * HOUR);
    expect(world.mode).toMatchObject({ mode: 'shared', handover: one.name });
    expect(isSealed(two)).toBe(true);
    expect(world.provider.presented.every(({ host }) => host === one.name)).toBe(true);
    one.weather.isCut = false;
    await rest();
    expect(world.provider.provider.counts.reuses).toBe(0);
  });
});

test('incident 32: nothing is renewed and nothing runs out while nothing is due', async () => {
  await sharing();
  world.liveFor(8 * HOUR);
  await until('a refresh', () => rotations() >= 1, HOUR);
  await world.run(10 * MINUTE);
  const { writes } = world.server;
  await world.run(30 * MINUTE);
  expect([world.server.writes, world.heldClaims]).toEqual([writes, []]);
});
