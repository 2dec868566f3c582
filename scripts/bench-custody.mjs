/** What custody costs: three replicas beside emulated CLIProxyAPIs, one login that falls due every few seconds, and a provider that takes 30 ms. */
import { mkdirSync, readFileSync, watch, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { CliProxyProcess, ProviderServer, until } from '@tokenmirror/testkit';

const REPLICAS = 3;
const PROVIDER_MS = 30;
/** What CLIProxyAPI and custody together leave of a lifetime, in seconds. */
const LEAD_S = 4 * 3600 + 600;
const NAME = 'claude-due@example.com.json';
const at = (seconds) => new Date(Date.now() + seconds * 1000).toISOString().replace(/\.\d+Z$/, 'Z');

/** One login that is due soon, and as many as are wanted that are not. */
function fill(directory, provider, credentials) {
  mkdirSync(join(directory, 'auths'), { recursive: true });
  const write = (name, email, lifetime) => {
    const { access_token, refresh_token } = provider.issue('claude', email);
    const fields = { type: 'claude', email, access_token, refresh_token, expired: at(lifetime), last_refresh: at(0), disabled: false };
    writeFileSync(join(directory, 'auths', name), JSON.stringify(fields), { mode: 0o600 });
  };
  write(NAME, 'due@example.com', LEAD_S + 8);
  for (let n = 1; n < credentials; n += 1) write(`claude-${n}@example.com.json`, `user-${n}@example.com`, 8 * 3600);
}

/** Follows one file in several directories: when it was whole, when each had a new access token, when it was sealed again. */
function follow(directories) {
  const visits = [];
  let current;
  const begin = () => (current ??= { whole: undefined, sealed: undefined, fresh: new Map(), before: new Map(seen) });
  const seen = new Map();
  const watchers = directories.map((directory) => {
    const look = () => {
      let fields;
      try {
        fields = JSON.parse(readFileSync(join(directory, NAME), 'utf8'));
      } catch {
        return;
      }
      const now = performance.now();
      const isWhole = fields.refresh_token !== undefined;
      if (isWhole && fields.access_token === seen.get(directory)) begin().whole ??= now;
      if (fields.access_token !== seen.get(directory) && seen.get(directory) !== undefined) begin().fresh.set(directory, now);
      if (current?.fresh.has(directory) && current.whole !== undefined && !isWhole) current.sealed ??= now;
      seen.set(directory, fields.access_token);
      if (current?.fresh.size === directories.length && current.sealed !== undefined) {
        if (current.whole !== undefined) visits.push(current);
        current = undefined;
      }
    };
    look();
    return watch(directory, (_, file) => file === NAME && look());
  });
  return { visits, close: () => watchers.forEach((watcher) => watcher.close()) };
}

/**
 * Measures visits on one store. `name` is as `migrate --to` takes it, `env` configures it.
 * Returns, in ms: `whole`, for how long the refresh token lay on a disk; `everywhere`, until all replicas had the new access token, beyond what the provider took; `others`,
 * the part of it after CLIProxyAPI wrote its own file.
 */
export async function measureVisits({ name, env, place, credentials, rotations, daemon, commandBeside, idle }) {
  const server = await ProviderServer.start();
  const source = join(place, `source-${name}-${credentials}`);
  fill(source, server.provider, credentials);
  await commandBeside(['migrate', '--from', pathToFileURL(source).href, '--to', name], env);
  server.provider.lifetimes.claude = LEAD_S + 3;
  server.provider.trouble.tokenDelayMs = PROVIDER_MS;
  const proxies = [];
  const daemons = [];
  try {
    for (let n = 0; n < REPLICAS; n += 1) {
      const workspace = join(place, `${name}-${credentials}-${n}`);
      const cpa = new CliProxyProcess({ flavour: '7.2', workspace, proxyUrl: server.url('http'), authorityFile: server.authorityFile });
      proxies.push(cpa);
      await cpa.start();
      daemons.push(await daemon(workspace, env, ['--custody', 'on', '--filesystem-shared']));
    }
    const { visits, close } = follow(proxies.map(({ authDir }) => authDir));
    await until(`${rotations} visits`, () => visits.length >= rotations, 60_000 + rotations * 15_000);
    close();
    server.provider.lifetimes.claude = 8 * 3600;
    if (server.provider.counts.reuses > 0) throw new Error('a refresh token was used twice');
    if (idle !== undefined) {
      await delay(165_000);
      await idle(daemons);
    }
    return {
      whole: visits.map(({ whole, sealed }) => sealed - whole),
      others: visits.map(({ fresh }) => Math.max(...fresh.values()) - Math.min(...fresh.values())),
      everywhere: visits.map(({ whole, fresh }) => Math.max(...fresh.values()) - whole - PROVIDER_MS),
    };
  } finally {
    for (const each of daemons) await each.stop();
    for (const cpa of proxies) await cpa.end('SIGKILL');
    await server.stop();
  }
}
