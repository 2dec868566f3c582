/** Three replicas share one login, whose refresh tokens work once: where the token is at each moment, and what clients notice. */
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { CliProxyProcess, ProviderServer, until } from '@tokenmirror/testkit';
import { color, place, replica, store, tell } from './stage.mjs';

/** What CLIProxyAPI and custody together leave of a lifetime, in seconds: a token of a little more falls due at once. */
const LEAD_S = 4 * 3600 + 600;
const EVERY_S = 5;
const ROTATIONS = 5;
const NAME = 'claude-me@example.com.json';
const FLAVOURS = { one: '7.2', two: '6.9', three: '7.2' };

const provider = await ProviderServer.start();
provider.provider.lifetimes.claude = LEAD_S + EVERY_S;
provider.provider.trouble.tokenDelayMs = 30;
const replicas = [];
const answers = {};
let isOver = false;

const end = (token) => `…${String(token).slice(-4)}`;
const fieldsAt = ({ auths }) => {
  try {
    return JSON.parse(readFileSync(join(auths, NAME), 'utf8'));
  } catch {
    return undefined;
  }
};

async function client({ cpa }) {
  while (!isOver) {
    const { status } = await cpa.message('claude').catch(() => ({ status: 'none' }));
    answers[status] = (answers[status] ?? 0) + 1;
    await delay(500);
  }
}

async function joined(name) {
  let unsealed;
  const event = (happened) => {
    if (happened.type !== 'visit') return;
    if (happened.phase === 'unsealing') {
      unsealed = performance.now();
      tell(name, color(33, 'claims the refresh token, which visits its workspace'));
    }
    if (happened.phase === 'quiet' && unsealed !== undefined) {
      const whole = Math.round(performance.now() - unsealed);
      unsealed = undefined;
      tell(
        name,
        `has the new access token ${end(fieldsAt({ auths: join(place, name, 'auths') })?.access_token)}, and is sealed again ${color(2, `(after ${whole} ms, of which the provider took 30)`)}`,
      );
    }
  };
  const workspace = join(place, name);
  mkdirSync(workspace, { recursive: true });
  const cpa = new CliProxyProcess({
    flavour: FLAVOURS[name],
    workspace,
    proxyUrl: provider.url('http'),
    authorityFile: provider.authorityFile,
  });
  await cpa.start();
  const daemon = await replica(name, { custody: 'on', 'filesystem-shared': true }, event);
  replicas.push({ ...daemon, cpa });
}

try {
  tell('you', `a provider whose refresh tokens work once, and a store in ${store}`);
  const { access_token, refresh_token, expires_in } = provider.provider.issue('claude', 'me@example.com');
  const at = (seconds) => new Date(Date.now() + seconds * 1000).toISOString().replace(/\.\d+Z$/, 'Z');
  tell('you', `a login lies in the store: access token ${end(access_token)}, refresh token ${end(refresh_token)}`);
  const login = { type: 'claude', email: 'me@example.com', access_token, refresh_token, disabled: false };
  mkdirSync(join(store, 'auths'), { recursive: true });
  writeFileSync(join(store, 'auths', NAME), JSON.stringify({ ...login, expired: at(expires_in), last_refresh: at(0) }), { mode: 0o600 });
  for (const name of Object.keys(FLAVOURS)) await joined(name);
  await until('all have it', () => replicas.every((each) => fieldsAt(each)?.access_token !== undefined));
  tell('you', 'three replicas have it without the refresh token; clients ask all of them, twice a second each');
  const clients = replicas.map(client);
  tell('you', `its tokens live so short that it falls due every ${EVERY_S} seconds`);
  const { counts } = provider.provider;
  await until(`${ROTATIONS} refreshes`, () => counts.rotations >= ROTATIONS, 50_000);
  provider.provider.lifetimes.claude = 8 * 3600;
  await until('all agree', () => new Set(replicas.map((each) => fieldsAt(each)?.access_token)).size === 1);
  isOver = true;
  await Promise.all(clients);
  const asked = Object.entries(answers)
    .map(([status, count]) => `${count} answered with ${status}`)
    .join(', ');
  tell('you', `${counts.rotations} refreshes, ${counts.reuses} refresh tokens used twice; requests: ${asked}`);
  tell('you', color(32, 'nobody was logged out, and no disk keeps a refresh token. See docs/custody.md.'));
} finally {
  isOver = true;
  await Promise.all(replicas.map(({ cpa }) => cpa.end('SIGKILL')));
  await Promise.all(replicas.map((each) => each.end()));
  await provider.stop();
  rmSync(place, { recursive: true, force: true });
}
