/** What the demos have in common: a place on the disk, lines on the terminal, and daemons in this process. */
import { mkdirSync, mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { silentLog } from '@tokenmirror/core';
import { compose, Daemon, readSettings } from '@tokenmirror/service';

const useColor = process.stdout.isTTY && process.env['NO_COLOR'] === undefined;
export const color = (code, text) => (useColor ? `\u001b[${code}m${text}\u001b[0m` : text);

export const place = mkdtempSync(join(tmpdir(), 'tokenmirror-demo-'));
export const store = join(place, 'store');

const started = performance.now();
const HUES = [36, 35, 33];
const cast = [];

export function tell(who, text) {
  const seconds = ((performance.now() - started) / 1000).toFixed(2).padStart(5);
  const name = who === 'you' ? color(1, 'you    ') : color(HUES[cast.indexOf(who) % HUES.length], who.padEnd(7));
  process.stdout.write(`${color(2, `${seconds}s`)}  ${name} ${text}\n`);
}

/** A daemon on a workspace of its own, in sync. */
export async function replica(name, flags, event) {
  cast.push(name);
  const workspace = join(place, name);
  mkdirSync(join(workspace, 'auths'), { recursive: true });
  mkdirSync(join(workspace, 'config'), { recursive: true });
  const settings = readSettings({ flags: { workspace, store: pathToFileURL(store).href, ...flags }, environment: {}, directory: place });
  const daemon = compose(settings, silentLog).resolve(Daemon);
  let running;
  await new Promise((resolve, reject) => {
    running = daemon.run({ ready: resolve, event }).catch(reject);
  });
  const end = async () => {
    await daemon.stop();
    await running;
  };
  return { name, end, workspace, auths: join(workspace, 'auths') };
}
