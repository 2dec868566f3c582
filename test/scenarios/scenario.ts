import { existsSync, mkdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createLog, compose, readSettings, ReplicaFactory, sync, type SyncResult } from '@tokenmirror/service';
import { temporaryDirectory } from '@tokenmirror/testkit';
import { STORE_PLACES, type StoreKind, type StorePlace } from '../store-places.js';

export type ReplicaName = 'a' | 'b' | 'c';

/** One thing that happens. Paths are below the workspace, `auths/…` or `config/config.yaml`. */
export type Step =
  | { readonly sync: ReplicaName; readonly force?: true; readonly adopt?: true }
  | { readonly write: string; readonly at: ReplicaName; readonly text: string; readonly mtime?: Date; readonly mode?: number }
  | { readonly remove: string; readonly at: ReplicaName }
  /** The whole auth directory goes, with its marker. */
  | { readonly wipe: ReplicaName }
  /** The machine is gone for good. */
  | { readonly gone: ReplicaName }
  /** Somebody who knows nothing of Tokenmirror writes into the authority or its mirror. */
  | { readonly foreign: string; readonly text: string; readonly in?: 'mirror' }
  /** The authority is lost, and an empty one stands in its place. */
  | { readonly lose: 'authority' }
  | { readonly check: (world: World) => void | Promise<void> };

/** What the authority, its mirror and each workspace hold in the end: parsed JSON of a credential, the text of a config, or `undefined` for nothing. */
export interface Scenario {
  readonly incident: number;
  readonly title: string;
  readonly steps: readonly Step[];
  readonly everywhere: Readonly<Record<string, unknown>>;
}

export interface World {
  readonly results: Readonly<Partial<Record<ReplicaName, SyncResult>>>;
  readonly text: (replica: ReplicaName, path: string) => string | undefined;
  readonly mode: (replica: ReplicaName, path: string) => number;
  readonly stored: (path: string) => Promise<unknown>;
  readonly mirrored: (path: string) => Promise<unknown>;
  /** Every name that the store lists, whatever it is. */
  readonly storedNames: () => Promise<string[]>;
}

/** Plays a scenario on an authority and a mirror, and returns what every place holds of the expected paths. */
export async function play(scenario: Scenario, authority: StoreKind, mirror: StoreKind): Promise<Record<string, Record<string, unknown>>> {
  const lost: StorePlace[] = [];
  let place = await STORE_PLACES[authority]();
  const copy = await STORE_PLACES[mirror]();
  const roots = { a: temporaryDirectory('scenario'), b: temporaryDirectory('scenario'), c: temporaryDirectory('scenario') };
  const results: Partial<Record<ReplicaName, SyncResult>> = {};
  const used = new Set<ReplicaName>();
  const world: World = {
    results,
    text: (replica, path) => (existsSync(join(roots[replica], path)) ? readFileSync(join(roots[replica], path), 'utf8') : undefined),
    mode: (replica, path) => statSync(join(roots[replica], path)).mode & 0o777,
    stored: async (path) => value(path, (await place.documents()).get(path)),
    mirrored: async (path) => value(path, (await copy.documents()).get(path)),
    storedNames: async () => [...(await place.documents()).keys()],
  };
  const syncOnce = async (replica: ReplicaName, { force = false, adopt = false } = {}): Promise<void> => {
    used.add(replica);
    const settings = readSettings({
      flags: { workspace: roots[replica], force, adopt },
      environment: {
        ...copy.environment,
        ...place.environment,
        TOKENMIRROR_STORE: authority,
        TOKENMIRROR_MIRRORS: mirror,
        TOKENMIRROR_CUSTODY: 'off',
      },
      directory: roots[replica],
    });
    const container = compose(settings, await createLog({ ...settings, 'log-level': 'error' }));
    results[replica] = await sync(container.resolve(ReplicaFactory));
  };
  try {
    for (const step of scenario.steps) {
      if ('sync' in step) await syncOnce(step.sync, step);
      else if ('write' in step) {
        const path = join(roots[step.at], step.write);
        mkdirSync(dirname(path), { recursive: true });
        writeFileSync(path, step.text, { mode: step.mode ?? 0o600 });
        if (step.mtime !== undefined) utimesSync(path, step.mtime, step.mtime);
      } else if ('remove' in step) rmSync(join(roots[step.at], step.remove));
      else if ('wipe' in step) rmSync(join(roots[step.wipe], 'auths'), { recursive: true });
      else if ('gone' in step) used.delete(step.gone);
      else if ('foreign' in step) await (step.in === 'mirror' ? copy : place).foreignWrite(step.foreign, step.text);
      else if ('lose' in step) {
        lost.push(place);
        place = await STORE_PLACES[authority]();
      } else await step.check(world);
    }
    for (let round = 0; round < 2; round += 1) for (const replica of used) await syncOnce(replica);
    const expected = Object.keys(scenario.everywhere);
    const held: Record<string, Record<string, unknown>> = {
      store: Object.fromEntries(await Promise.all(expected.map(async (path) => [path, await world.stored(path)] as const))),
      mirror: Object.fromEntries(await Promise.all(expected.map(async (path) => [path, await world.mirrored(path)] as const))),
    };
    for (const replica of used) held[replica] = Object.fromEntries(expected.map((path) => [path, value(path, world.text(replica, path))]));
    return held;
  } finally {
    for (const each of [place, copy, ...lost]) await each.destroy();
  }
}

function value(path: string, text: string | undefined): unknown {
  if (text === undefined || !path.startsWith('auths/')) return text;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}
