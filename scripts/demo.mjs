#!/usr/bin/env node
/** `npm run demo`: two replicas in this terminal, what happens to their files, and what the engine does about it. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const root = join(import.meta.dirname, '..');
const ready = spawnSync(process.execPath, [join(root, 'scripts', 'ready.mjs')], { stdio: 'inherit' });
if (ready.status !== 0) process.exit(ready.status ?? 1);

const { compose, Daemon, readSettings } = await import('@tokenmirror/service');
const { silentLog } = await import('@tokenmirror/core');

const useColor = process.stdout.isTTY && process.env['NO_COLOR'] === undefined;
const color = (code, text) => (useColor ? `\u001b[${code}m${text}\u001b[0m` : text);
const started = performance.now();
const tell = (who, text) => {
  const seconds = ((performance.now() - started) / 1000).toFixed(2).padStart(5);
  const name = { demo: color(1, 'you    '), laptop: color(36, 'laptop '), server: color(35, 'server ') }[who];
  process.stdout.write(`${color(2, `${seconds}s`)}  ${name} ${text}\n`);
};

const place = mkdtempSync(join(tmpdir(), 'tokenmirror-demo-'));
const store = join(place, 'store');
const DESCRIPTIONS = {
  push: 'sent to the store',
  pull: 'took from the store',
  merge: 'merged both sides',
  'delete-local': 'deleted here',
  'delete-remote': 'deleted in the store',
};

async function replica(name) {
  const workspace = join(place, name);
  mkdirSync(join(workspace, 'auths'), { recursive: true });
  mkdirSync(join(workspace, 'config'));
  const settings = readSettings({ flags: { workspace, store: pathToFileURL(store).href }, environment: {}, directory: place });
  const daemon = compose(settings, silentLog).resolve(Daemon);
  const event = (happened) => {
    if (happened.type !== 'acted') return;
    const conflict =
      happened.conflicts.length > 0
        ? color(33, `  conflict in ${happened.conflicts.join(', ')}: the store's value stays, the other is in its history`)
        : '';
    tell(name, `${DESCRIPTIONS[happened.action]}: ${happened.key} ${color(2, `(${happened.because})`)}${conflict}`);
  };
  let running;
  await new Promise((resolve, reject) => {
    running = daemon.run({ ready: resolve, event }).catch(reject);
  });
  return { name, daemon, running, auths: join(workspace, 'auths'), config: join(workspace, 'config', 'config.yaml') };
}

let grants = 0;
const grant = () => {
  grants += 1;
  const at = (hours) => new Date(Date.now() + hours * 3_600_000 + grants * 1000).toISOString();
  return { access_token: `demo-access-${grants}`, refresh_token: `demo-refresh-${grants}`, last_refresh: at(0), expired: at(8) };
};
const credential = (more = {}) => ({ type: 'claude', email: 'me@example.com', disabled: false, ...grant(), ...more });
const write = (where, name, value) => writeFileSync(join(where.auths, name), JSON.stringify(value));
const read = (where, name) => JSON.parse(readFileSync(join(where.auths, name), 'utf8'));
async function wait(condition) {
  while (!condition()) await delay(10);
  await delay(150);
}

const CLAUDE = 'claude-me@example.com.json';
const CODEX = 'codex-me@example.com.json';
try {
  tell('demo', `two replicas start, with one store in ${store}`);
  const [laptop, server] = [await replica('laptop'), await replica('server')];

  tell('demo', 'log in on the laptop, twice');
  write(laptop, CLAUDE, credential());
  write(laptop, CODEX, credential({ type: 'codex' }));
  await wait(() => existsSync(join(server.auths, CLAUDE)) && existsSync(join(server.auths, CODEX)));

  for (let n = 1; n <= 3; n += 1) {
    tell('demo', `CLIProxyAPI on the server renews the token (${n} of 3)`);
    const renewed = { ...read(server, CLAUDE), ...grant() };
    write(server, CLAUDE, renewed);
    await wait(() => read(laptop, CLAUDE).access_token === renewed.access_token);
  }

  tell('demo', 'a note on the laptop and a priority on the server, at the same moment: both survive');
  write(laptop, CLAUDE, { ...read(laptop, CLAUDE), note: 'work account' });
  write(server, CLAUDE, { ...read(server, CLAUDE), priority: 7 });
  await wait(() => [laptop, server].every((each) => read(each, CLAUDE).note === 'work account' && read(each, CLAUDE).priority === 7));

  tell('demo', 'two different notes at the same moment: a conflict');
  write(laptop, CLAUDE, { ...read(laptop, CLAUDE), note: 'from the laptop' });
  write(server, CLAUDE, { ...read(server, CLAUDE), note: 'from the server' });
  await wait(() => read(laptop, CLAUDE).note === read(server, CLAUDE).note && read(laptop, CLAUDE).note !== 'work account');

  tell('demo', 'an accident: the credential on the server becomes {}');
  write(server, CLAUDE, {});
  await wait(() => read(server, CLAUDE).access_token !== undefined);

  tell('demo', 'delete the second login on the laptop (a deletion is confirmed for 1.5 seconds)');
  unlinkSync(join(laptop.auths, CODEX));
  await wait(() => !existsSync(join(server.auths, CODEX)));

  for (const { daemon, running } of [laptop, server]) {
    await daemon.stop();
    await running;
  }
  tell('demo', color(32, 'everything is equal everywhere. `npm start` runs it for real.'));
} finally {
  rmSync(place, { recursive: true, force: true });
}
