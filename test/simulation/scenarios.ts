import { deepEqual, equal, match, ok } from 'node:assert/strict';
import { Hasher, recordKey, type DocumentKey } from '@tokenmirror/core';
import { CLUSTER_KEY, type SimHost } from './sim-host.js';
import { HOUR, MINUTE, World } from './world.js';

const A = 'a.json';

let world: World;
let one: SimHost;
let two: SimHost;

/** Schedules by name: what broke an earlier version of the rules, or would. A run that throws has found a fault. */
export const SCENARIOS: { readonly name: string; readonly run: () => Promise<void> }[] = [];

function scenario(name: string, run: () => Promise<void>): void {
  SCENARIOS.push({ name, run });
}

/** Begins with two replicas that share a credential. */
function shared(name: string, run: () => Promise<void>): void {
  scenario(name, async () => {
    await sharing();
    await run();
  });
}

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

function fieldsAt(host: SimHost): Record<string, unknown> {
  const text = host.disk.read(A) ?? '';
  return text === '' ? {} : (JSON.parse(text) as Record<string, unknown>);
}
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

/** A request of a client, and the time that it takes. */
async function ask(host: SimHost): Promise<number | undefined> {
  const answers: (number | undefined)[] = [];
  void host.ask().then((status) => answers.push(status));
  await until('it is answered', () => answers.length > 0, MINUTE);
  return answers[0];
}

/** The replica whose proxy has a refresh under way. */
async function inRefresh(): Promise<SimHost> {
  await until('a refresh is under way', () => world.provider.inFlight.size > 0);
  const [[presentation] = []] = [...world.provider.inFlight];
  return presentation?.host === one.name ? one : two;
}

/** A login whose token a proxy knows for as long as it is frozen, whatever becomes of its file. Returns the token. */
async function freezeWithLogin(host: SimHost, more: Record<string, unknown> = {}): Promise<string> {
  world.login(host, A, more);
  const login = String(fieldsAt(host)['refresh_token']);
  await until('its proxy knows it', () => host.proxy?.program.credentials.some(({ fields }) => fields['refresh_token'] === login) === true);
  if (host.proxy !== undefined) host.proxy.process.isFrozen = true;
  return login;
}

/** All is as it has to be after everything. */
async function rest(ms = 20 * MINUTE): Promise<void> {
  await world.run(ms);
  world.liveFor(8 * HOUR);
  await world.run(25 * MINUTE);
  world.checkRest();
  deepEqual(world.failures, []);
}

shared('refresh it again and again, and it is whole nowhere in between', async () => {
  deepEqual([isSealed(one), isSealed(two), world.heldClaims], [true, true, []]);
  const before = token();
  await until('five refreshes', () => rotations() >= 5, 3 * HOUR);
  await world.run(5000);
  ok(token() !== before);
  deepEqual([isSealed(one), isSealed(two)], [true, true]);
  equal(fieldsAt(one)['access_token'], fieldsAt(two)['access_token']);
  await rest();
  equal(world.provider.provider.counts.reuses, 0);
});

shared('incident 40: a refresh token that comes back from the memory of the proxy is sealed again, and counted', async () => {
  const whole = JSON.stringify(world.stored(A));
  await until('a visit is over, and watched', () => world.heldClaims.some(({ state }) => state === 'sealed'), HOUR);
  const host = world.heldClaims[0]?.replica === one.name ? one : two;

  const current = JSON.stringify({ ...(JSON.parse(whole) as object), ...world.stored(A) });
  ok(host.proxy);
  host.disk.writeInPlace(A, current, host.proxy.process);
  await world.run(1000);
  equal(isSealed(host), true);
  equal(host.daemon?.custodian.status.counts.echoes, 1);
  await rest();
});

shared(
  'incident 41: a daemon dies in the middle of a visit while its proxy lives on; nobody touches the token, and a restart collects it',
  async () => {
    const host = await inRefresh();
    host.killDaemon();
    await world.run(25 * MINUTE);
    deepEqual([rotations(), world.heldClaims.map(({ replica, state }) => [replica, state])], [1, [[host.name, 'open']]]);
    host.startDaemon();
    await world.run(MINUTE);
    equal(isSealed(host), true);
    equal(world.provider.provider.isCurrent(token()), true);
    await rest();
    equal(world.provider.provider.counts.reuses, 0);
  },
);

shared(
  'a proxy that was frozen in the middle of a refresh writes the new grant when it thaws, long after its file was sealed',
  async () => {
    const host = await inRefresh();
    if (host.proxy !== undefined) host.proxy.process.isFrozen = true;
    await world.run(20 * MINUTE);
    equal(isSealed(host), true);
    equal(rotations(), 1);
    host.proxy?.process.thaw();
    await world.run(MINUTE);
    equal(world.provider.provider.isCurrent(token()), true);
    await rest();
    equal(world.provider.provider.counts.reuses, 0);
  },
);

shared('a daemon and its proxy that are frozen together for an hour find their claim as they left it', async () => {
  const host = await inRefresh();
  for (const process of [host.daemon?.process, host.proxy?.process]) if (process !== undefined) process.isFrozen = true;
  await world.run(HOUR);
  ok(rotations() <= 1);
  for (const process of [host.daemon?.process, host.proxy?.process]) process?.thaw();
  await rest();
  equal(world.provider.provider.counts.reuses, 0);
});

shared('a deletion during a visit wins, and the new grant is in the history', async () => {
  world.provider.provider.trouble.tokenDelayMs = 10_000;
  const host = await inRefresh();
  world.deleteFile(host === one ? two : one, A);
  await rest();
  equal(world.stored(A), undefined);
  deepEqual([one.disk.read(A), two.disk.read(A)], [undefined, undefined]);
});

shared('an access token that dies before its time is refreshed, and every replica serves again', async () => {
  world.liveFor(8 * HOUR);
  await until('a refresh that lasts', () => rotations() >= 1, HOUR);
  await world.run(10 * MINUTE);
  const dead = token();
  world.provider.provider.kill(String(fieldsAt(one)['access_token']));
  equal(await ask(one), 401);
  await until('another refresh', () => token() !== dead, MINUTE);
  await world.run(5000);
  deepEqual([await ask(one), await ask(two)], [200, 200]);
  await rest();
  equal(world.provider.provider.counts.reuses, 0);
});

shared('an access token that dies again right after each refresh is not refreshed again and again', async () => {
  world.liveFor(8 * HOUR);
  await until('a refresh that lasts', () => rotations() >= 1, HOUR);
  await world.run(10 * MINUTE);
  const before = rotations();
  for (let minute = 0; minute < 3 * 60; minute += 1) {
    world.provider.provider.kill(String(world.stored(A)?.['access_token']));
    for (const host of [one, two]) await ask(host);
    await world.run(MINUTE);
  }
  ok(rotations() - before >= 2 && rotations() - before <= 8, `${String(rotations() - before)} refreshes`);
  await rest();
});

shared('a proxy that gave up the newest access token, for an older one was refused late, is woken without a refresh', async () => {
  world.liveFor(8 * HOUR);
  await until('a refresh that lasts', () => rotations() >= 1, HOUR);
  await world.run(2000);
  const [before] = [rotations()];
  const credential = one.proxy?.program.credentials.find(({ path }) => path === A);
  ok(credential !== undefined);
  credential.suspendedUntil = Infinity;
  equal(await ask(one), 503);
  one.daemon?.custodian.accessTokenDied(`auths/${A}` as DocumentKey);
  await world.run(2000);
  equal(await ask(one), 200);
  equal(rotations(), before);
  await rest();
});

/** The claim on a refresh token, whoever has it. */
function claimOn(refreshToken: string): string | undefined {
  const content = world.server.content(recordKey('claims', new Hasher(CLUSTER_KEY).tokenId(refreshToken)));
  return content === undefined ? undefined : (JSON.parse(content) as { state: string }).state;
}

shared('a used token stays spent, whoever puts an old copy of its file back', async () => {
  const old = JSON.stringify(world.stored(A));
  const used = token();
  await until('a refresh', () => rotations() >= 1, HOUR);
  await world.run(5 * MINUTE);
  equal(claimOn(used), 'spent');
  const newest = token();
  for (const host of [one, two]) host.killProxy();
  two.disk.put(A, JSON.stringify({ ...(JSON.parse(old) as object), note: 'of yesterday' }));
  await world.run(MINUTE);
  deepEqual([claimOn(used), token(), isSealed(two)], ['spent', newest, true]);
  for (const host of [one, two]) host.startProxy();
  await rest();
});

shared('a proxy whose port is closed may still be at work: its claim stays', async () => {
  const host = await inRefresh();
  host.killProxy();
  await world.run(10 * MINUTE);
  deepEqual(
    world.heldClaims.map(({ replica }) => replica),
    [host.name],
  );
  host.startProxy();
  await rest();
});

shared('a file that an echo sealed again is not written whole a second time in its visit', async () => {
  await until('it is whole somewhere', () => [one, two].some((host) => fieldsAt(host)['refresh_token'] !== undefined));
  const host = fieldsAt(one)['refresh_token'] === undefined ? two : one;
  host.killProxy();
  host.disk.put(A, JSON.stringify({ ...fieldsAt(host === one ? two : one) }));
  host.startProxy();
  let isWhole = false;
  for (let ms = 0; ms < 140_000; ms += 10) {
    await world.run(10);
    isWhole ||= fieldsAt(host)['refresh_token'] !== undefined;
  }
  equal(isWhole, false);
  await rest();
});

shared('a grant without a refresh token never takes the place of one with it', async () => {
  const before = token();
  const later = new Date(world.time.now + 1e12).toISOString();
  two.disk.put(A, JSON.stringify({ ...fieldsAt(two), access_token: 'sk-ant-oat01-pasted', expired: later }));
  await world.run(MINUTE);
  equal(token(), before);
  await rest();
});

shared('a daemon that lost its state in the middle of a visit watches what it had claimed', async () => {
  world.provider.provider.trouble.tokenDelayMs = 5000;
  const host = await inRefresh();
  host.killDaemon();
  host.loseState();
  host.startDaemon();
  await world.run(3000);
  deepEqual(
    host.daemon?.custodian.status.visits.map(({ key }) => key),
    [`auths/${A}`],
  );
  world.provider.provider.trouble.tokenDelayMs = 0;
  await rest();
});

scenario('a deletion during a visit wins, although 6.9 brings the file back with the answer', async () => {
  await sharing('on', '6.9');
  world.provider.provider.trouble.tokenDelayMs = 3000;
  const host = await inRefresh();
  world.deleteFile(host === one ? two : one, A);
  await world.run(MINUTE);
  world.provider.provider.trouble.tokenDelayMs = 0;
  await rest();
  equal(world.stored(A), undefined);
  deepEqual([one.disk.read(A), two.disk.read(A)], [undefined, undefined]);
});

scenario(
  'a setting that is changed while the proxy of a lone replica refreshes is not undone by the one with which the refresh began',
  async () => {
    world = new World({ seed: 5, custody: 'auto', flavour: '7.2' });
    world.liveFor(12 * MINUTE);
    one = world.addHost();
    two = one;
    world.start(one);
    await world.run(2000);
    world.login(one, A);
    await world.run(5000);
    world.edit(one, A);
    await world.run(MINUTE);
    world.provider.provider.trouble.tokenDelayMs = 20_000;
    await inRefresh();
    await world.run(500);
    world.edit(one, A);
    await world.run(2000);
    const edited = fieldsAt(one)['note'];
    world.provider.provider.trouble.tokenDelayMs = 0;
    await world.run(MINUTE);
    equal(rotations() > 0, true);
    deepEqual([fieldsAt(one)['note'], world.stored(A)?.['note']], [edited, edited]);
    await rest();
  },
);

shared(
  'a proxy that was frozen between opening its file and writing it writes the new grant into a file that was replaced since',
  async () => {
    const host = await inRefresh();
    const { proxy } = host;
    ok(proxy !== undefined);
    for (let n = 0; n < 1_000_000 && host.disk.read(A) !== ''; n += 1) await world.run(0.02);
    equal(host.disk.read(A), '');
    proxy.process.isFrozen = true;
    await world.run(4 * MINUTE);
    equal(isSealed(host), true);
    proxy.process.thaw();
    await world.run(MINUTE);
    equal(world.provider.provider.isCurrent(token()), true);
    await rest();
    equal(world.provider.provider.counts.reuses, 0);
  },
);

shared('two logins while the network is apart: the later one counts, and the other is sealed too', async () => {
  one.weather.isCut = true;
  world.login(one, A);
  await world.run(5000);
  world.login(two, A);
  await world.run(5000);
  const later = token();
  one.weather.isCut = false;
  await world.run(5 * MINUTE);
  equal(token(), later);
  deepEqual([isSealed(one), isSealed(two)], [true, true]);
  await rest();
});

shared('an edit during a visit survives it', async () => {
  const host = await inRefresh();
  world.edit(host === one ? two : one, A);
  await rest();
  match(String(world.stored(A)?.['note']), /^note-/);
});

shared('an edit of the very file that is being refreshed keeps the expiry of the visit to itself', async () => {
  world.provider.provider.trouble.tokenDelayMs = 10_000;
  const host = await inRefresh();
  const expires = world.stored(A)?.['expired'];
  world.edit(host, A);
  await world.run(2000);
  deepEqual([world.stored(A)?.['note'], world.stored(A)?.['expired']], [fieldsAt(host)['note'], expires]);
  world.provider.provider.trouble.tokenDelayMs = 0;
  await rest();
});

shared('a login elsewhere during a visit is a fork: one of the two wins everywhere', async () => {
  const host = await inRefresh();
  world.login(host === one ? two : one, A);
  await rest();
  equal(world.provider.provider.isCurrent(token()), true);
});

shared('a replica that vanishes for ever in the middle of a visit is taken over, hours later', async () => {
  const host = await inRefresh();
  host.vanish();
  await world.run(90 * MINUTE);
  equal(world.events.get('claim-taken-over'), undefined);
  const other = host === one ? two : one;
  deepEqual(other.daemon?.custodian.status.silentHolders, [{ key: `auths/${A}`, replica: host.name }]);
  await world.run(8 * HOUR);
  equal(world.events.get('claim-taken-over'), 1);
});

shared('two files of one account have one claim: one is visited, both get the new grant', async () => {
  const login = world.logins[0];
  if (login === undefined) throw new Error('no login');
  two.disk.put('twin.json', JSON.stringify({ ...world.stored(A) }));
  world.copied.add(token());
  await until('a refresh', () => rotations() >= 2, 2 * HOUR);
  await world.run(5000);
  equal(world.stored('twin.json')?.['refresh_token'], token());
  await rest();
  equal(world.provider.provider.counts.reuses, 0);
});

shared('somebody else who logs in over a second file of one account, and is refreshed, uses up nothing of the first', async () => {
  const first = token();
  one.disk.put('twin.json', JSON.stringify(world.stored(A)));
  world.copied.add(first);
  await world.run(5000);
  world.liveFor(20_000);
  world.login(one, 'twin.json');
  const second = JSON.parse(world.logins.at(-1)?.text ?? '') as { refresh_token: string };
  await until('it is refreshed', () => claimOn(second.refresh_token) === 'spent', 5 * MINUTE);
  world.liveFor(20 * MINUTE);
  ok(claimOn(first) !== 'spent');
  await rest();
  equal(world.provider.provider.counts.reuses, 0);
});

scenario('the first one hands over before anybody else refreshes', async () => {
  await sharing('auto');
  equal(world.mode?.mode, 'shared');
  equal(world.mode.handover, undefined);
  deepEqual([isSealed(one), isSealed(two)], [true, true]);
  await rest();
});

scenario('a lone replica whose proxy is in the middle of a refresh hands over after it, and not before', async () => {
  world = new World({ seed: 5, custody: 'auto', flavour: '7.2' });
  world.liveFor(-9 * MINUTE);
  one = world.addHost();
  two = world.addHost();
  world.start(one);
  await world.run(2000);
  world.provider.provider.trouble.tokenDelayMs = 20_000;
  world.login(one, A);
  equal(await inRefresh(), one);
  world.start(two);
  await world.run(15_000);
  deepEqual([world.mode?.mode, world.mode?.handover], ['shared', one.name]);
  world.provider.provider.trouble.tokenDelayMs = 0;
  await rest();
  equal(world.provider.provider.counts.reuses, 0);
});

scenario('an old copy of a deleted credential, which is left alone, does not hold up a handover', async () => {
  world = new World({ seed: 5, custody: 'auto', flavour: '7.2' });
  world.liveFor(HOUR);
  one = world.addHost();
  two = world.addHost();
  world.start(one);
  await world.run(2000);
  world.login(one, A);
  for (let n = 0; n < 2; n += 1) {
    world.login(one, 'b.json');
    await world.run(10_000);
  }
  const old = world.logins.find(({ path }) => path === 'b.json');
  world.deleteFile(one, 'b.json');
  await world.run(MINUTE);
  world.copyIn(one, 'b.json', old?.text ?? '');
  await world.run(MINUTE);
  equal(one.disk.read('b.json'), old?.text);
  world.start(two);
  await world.run(20 * MINUTE);
  deepEqual([world.mode?.mode, world.mode?.handover], ['shared', undefined]);
});

scenario('a lone replica that is cut off keeps every token, whoever joins meanwhile', async () => {
  world = new World({ seed: 5, custody: 'auto', flavour: '7.2' });
  world.liveFor(20 * MINUTE);
  one = world.addHost();
  two = world.addHost();
  world.start(one);
  await world.run(2000);
  world.login(one, A);
  await world.run(MINUTE);
  equal(isSealed(one), false);
  one.weather.isCut = true;
  world.start(two);
  await world.run(2 * HOUR);
  deepEqual([world.mode?.mode, world.mode?.handover], ['shared', one.name]);
  equal(isSealed(two), true);
  equal(
    world.provider.presented.every(({ host }) => host === one.name),
    true,
  );
  one.weather.isCut = false;
  await rest();
  equal(world.provider.provider.counts.reuses, 0);
});

scenario('a login of somebody else, at whatever instant of the taking of a claim, is unsealed nowhere but where it was made', async () => {
  await sharing();
  await until('a claim is taken', () => world.heldClaims.length > 0);
  const [claimedAt, claimer] = [world.time.now, world.heldClaims[0]?.replica];
  for (let before = 0; before < 20; before += 1) {
    await sharing();
    await world.run(claimedAt - before - world.time.now);
    await freezeWithLogin(claimer === one.name ? two : one, { email: 'somebody-else@example.com' });
    await world.run(MINUTE);
    deepEqual(world.failures, []);
  }
});

shared('a login whose claim got lost on its way is claimed before anybody else hears of it', async () => {
  const login = await freezeWithLogin(one);
  const isToBeClaimed = (): boolean => (one.daemon?.custodian.status.visits ?? []).length > 0;
  for (let n = 0; n < 1000 && !isToBeClaimed(); n += 1) await world.run(0.02);
  one.weather.isCut = true;
  await world.run(10_000);
  deepEqual(world.heldClaims, []);
  one.weather.isCut = false;
  await world.run(40 * MINUTE);
  deepEqual([token(), world.heldClaims.map(({ replica }) => replica)], [login, [one.name]]);
  one.proxy?.process.thaw();
  await rest();
});

shared('who is to be alone shows no token that somebody else may still know', async () => {
  world.provider.provider.trouble.tokenDelayMs = 10_000;
  const host = await inRefresh();
  const other = host === one ? two : one;
  world.eject(other);
  await world.run(5000);
  equal(isSealed(other), true);
  world.provider.provider.trouble.tokenDelayMs = 0;
  await world.run(10 * MINUTE);
  deepEqual([isSealed(other), isSealed(host), world.failures], [false, true, []]);
  world.share();
  await rest();
});

/** A refresh with a token that only the memory of a proxy has, for its file is sealed soon. */
async function refreshFromMemory(): Promise<SimHost> {
  const before = fieldsAt(one)['access_token'];
  const host = await inRefresh();
  for (let n = 0; n < 100_000 && [before, undefined].includes(fieldsAt(host)['access_token']); n += 1) await world.run(0.02);
  const [answered, daemon] = [fieldsAt(host), host.daemon];
  ok(daemon !== undefined && answered['refresh_token'] !== undefined);
  daemon.process.isFrozen = true;
  world.provider.provider.kill(String(answered['access_token']));
  world.provider.provider.trouble.tokenDelayMs = 20_000;
  void world.clientAsks(host);
  await until('it is refreshed from memory', () => [...world.provider.inFlight].some(([each]) => each.token === answered['refresh_token']));
  daemon.process.thaw();
  await world.run(5000);
  equal(isSealed(host), true);
  return host;
}

shared('a refresh from memory, on a refused access token, that goes on long after its file was sealed is collected', async () => {
  const host = await refreshFromMemory();
  await world.run(5 * MINUTE);
  deepEqual([rotations(), isSealed(host), world.provider.provider.isCurrent(token())], [2, true, true]);
  world.provider.provider.trouble.tokenDelayMs = 0;
  await rest();
  equal(world.provider.provider.counts.reuses, 0);
});

shared('a daemon that starts again while it watches a sealed file watches from the beginning', async () => {
  const host = await refreshFromMemory();
  host.killDaemon();
  host.startDaemon();
  await world.run(8000);
  deepEqual(
    world.heldClaims.map(({ replica }) => replica),
    [host.name],
  );
  world.provider.provider.trouble.tokenDelayMs = 0;
  await rest();
  equal(world.provider.provider.counts.reuses, 0);
});

scenario('a clock that is an hour ahead takes no claim over', async () => {
  world = new World({ seed: 5, custody: 'on', flavour: '7.2' });
  world.liveFor(20 * MINUTE);
  one = world.addHost();
  two = world.addHost({ skewMs: HOUR });
  for (const host of [one, two]) world.start(host);
  await world.run(5000);
  await freezeWithLogin(one);
  await world.run(MINUTE);
  deepEqual([world.failures, world.heldClaims.map(({ replica }) => replica)], [[], [one.name]]);
  one.proxy?.process.thaw();
  await world.run(10 * MINUTE);
  deepEqual(world.failures, []);
});

shared('a release whose answer got lost takes nothing from who claimed the token since', async () => {
  const host = await inRefresh();
  const other = host === one ? two : one;
  world.liveFor(10 * MINUTE + 10_000);
  await until('it is let go', () => world.heldClaims.length === 0);
  host.weather.isCut = true;
  await until('the other one refreshes', () => [...world.provider.inFlight].some(([each]) => each.host === other.name));
  other.killProxy();
  host.weather.isCut = false;
  await world.run(MINUTE);
  deepEqual(
    world.heldClaims.map(({ replica }) => replica),
    [other.name],
  );
  other.startProxy();
  await rest();
});

shared('edits of two fields at once, at whatever distance, all stay', async () => {
  const put = (host: SimHost, fields: Record<string, unknown>): boolean => host.edit(A, (before) => ({ ...before, ...fields }));
  for (let n = 0; n < 40; n += 1) {
    const wanted = { note: `n${String(n)}`, prefix: `p${String(n)}`, priority: n };
    put(one, { note: wanted.note });
    await world.run(n / 4);
    put(two, { prefix: wanted.prefix });
    await world.run((n % 7) / 2);
    put(one, { priority: wanted.priority });
    await world.run(10_000);
    for (const fields of [fieldsAt(one), fieldsAt(two), world.stored(A) ?? {}]) {
      const { note, prefix, priority } = fields;
      deepEqual({ note, prefix, priority }, wanted);
    }
  }
  await rest();
});

shared('an edit by a person is not undone by the proxy that saves what it had in memory', async () => {
  world.edit(two, A);
  await world.run(10_000);
  for (const host of [one, two]) {
    const old = host.disk.read(A) ?? '';
    world.edit(host, A);
    const edited = fieldsAt(host)['note'];
    await world.run(30);
    ok(host.proxy);
    host.disk.writeInPlace(A, old, host.proxy.process);
    await world.run(10_000);
    deepEqual([fieldsAt(one)['note'], fieldsAt(two)['note'], world.stored(A)?.['note']], [edited, edited, edited]);
  }
  await rest();
});

shared('a proxy that crashes between the answer and its file presents the token again, as it would alone', async () => {
  const host = await inRefresh();
  await until('the provider has answered', () => rotations() === 1);
  host.killProxy();
  host.startProxy();
  await world.run(30 * MINUTE);
  deepEqual([...world.causes.keys()], ['the answer was lost']);
  world.login(host, A);
  await rest();
});

shared('an open claim is taken over once, although everybody slept until long after its end', async () => {
  const three = world.addHost();
  world.start(three);
  await world.run(MINUTE);
  const host = await inRefresh();
  host.vanish();
  const asleep = world.living.flatMap(({ daemon, proxy }) => [daemon?.process, proxy?.process]);
  for (const process of asleep) if (process !== undefined) process.isFrozen = true;
  await world.run(12 * HOUR);
  for (const process of asleep) process?.thaw();
  await world.run(HOUR);
  equal(world.events.get('claim-taken-over'), 1);
  await rest();
});

shared('a store that is restored to yesterday, claims and all, gets no used token presented', async () => {
  const yesterday = world.server.copy();
  const used = token();
  await until('two refreshes', () => rotations() >= 2, 2 * HOUR);
  await world.run(5 * MINUTE);
  const newest = String(world.stored(A)?.['access_token']);
  world.restoredAt = world.time.now;
  world.server.restore(yesterday);
  equal(token(), used);
  await world.run(3 * HOUR);
  equal(world.provider.provider.counts.reuses, 0);
  deepEqual([fieldsAt(one)['access_token'], fieldsAt(two)['access_token']], [newest, newest]);
});

scenario('incident 32: nothing is renewed and nothing runs out while nothing is due', async () => {
  await sharing();
  world.liveFor(8 * HOUR);
  await until('a refresh', () => rotations() >= 1, HOUR);
  await world.run(10 * MINUTE);
  const { writes } = world.server;
  await world.run(30 * MINUTE);
  deepEqual([world.server.writes, world.heldClaims], [writes, []]);
});
