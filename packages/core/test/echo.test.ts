import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  accessTokenOf,
  extendLineage,
  grantOf,
  isGrantField,
  isInUse,
  plan,
  withLocal,
  type Action,
  type Base,
  type Document,
  type JsonObject,
  type Lineage,
  type Remote,
  type Revision,
} from '@tokenmirror/core';
import { credentialOf, digest, grant, hasher, KEY, localOf, remoteOf } from './arbitrary.js';

/** One credential on one replica beside the store, driven by `plan` alone. */
class Replica {
  now = 1_000_000;
  file: JsonObject | undefined;
  /** What CLIProxyAPI may still have in memory: every content of the file, and until when it stood there. */
  readonly shown: { readonly fields: JsonObject; until: number }[] = [];
  stored: JsonObject | undefined;
  lineage: Lineage = [];
  revision = 0;
  writes = 0;
  repairs = 0;
  #base: Base | undefined;

  constructor(fields: JsonObject) {
    this.show(fields);
    this.settle();
  }

  /** Somebody writes the file. */
  show(fields: JsonObject | undefined): void {
    const last = this.shown.at(-1);
    if (last !== undefined && this.file !== undefined) last.until = this.now;
    this.file = fields;
    if (fields !== undefined) this.shown.push({ fields, until: Infinity });
  }

  /** Another replica writes the store. */
  store(fields: JsonObject | undefined): void {
    this.stored = fields;
    this.revision += 1;
    const token = fields === undefined ? undefined : accessTokenOf(fields);
    if (token !== undefined) this.lineage = extendLineage(this.lineage, hasher.fingerprint(token));
  }

  /** Plans and acts until nothing is left to do. */
  settle(): Action['kind'][] {
    const kinds: Action['kind'][] = [];
    for (let round = 0; round < 6; round += 1) {
      const action = this.#plan();
      if (action.kind === 'nothing' || (action.kind === 'forget' && !isInUse(this.#base))) return kinds;
      kinds.push(action.kind);
      this.#act(action);
      if (action.kind === 'refuse') return kinds;
    }
    throw new Error(`does not settle: ${kinds.join(', ')}`);
  }

  settings(): JsonObject {
    return Object.fromEntries(Object.entries(this.stored ?? {}).filter(([name]) => !isGrantField(name)));
  }

  #document(): Document | undefined {
    return this.file === undefined ? undefined : credentialOf(this.file);
  }

  #remote(): Remote {
    if (this.stored !== undefined) return remoteOf(credentialOf(this.stored), this.#tag(), this.lineage);
    return this.revision === 0 ? { state: 'absent', confirmed: true } : { state: 'deleted', revision: this.#tag(), lineage: this.lineage };
  }

  #tag(): Revision & string {
    return `r${String(this.revision)}` as Revision & string;
  }

  #plan(): Action {
    const document = this.#document();
    const recent = (this.#base?.replaced ?? []).map(({ at, ...old }) => ({ ...old, ageMs: this.now - at }));
    return plan(document === undefined ? { state: 'absent' } : localOf(document), this.#remote(), this.#base, { recent, echoMs: 5000 });
  }

  #act(action: Action): void {
    const found = this.#document();
    const before: Base = { ...this.#base, key: KEY };
    if (action.kind === 'repair') this.repairs += 1;
    if ('document' in action && action.document.kind === 'credential') {
      const { fields } = action.document;
      if (this.stored === undefined || digest(credentialOf(this.stored)).hash !== digest(action.document).hash) {
        this.writes += 1;
        this.store(fields);
      } else this.lineage = extendLineage(this.lineage, digest(action.document).fingerprint);
      const seen = found === undefined ? before : withLocal(before, digest(found), this.now);
      if (found === undefined || digest(found).hash !== digest(action.document).hash) this.show(fields);
      const remote = { state: 'live', revision: this.#tag(), digest: digest(action.document) } as const;
      this.#base = { ...withLocal(seen, digest(action.document), this.now), remote };
    } else if (action.kind === 'delete-local') {
      this.show(undefined);
      const { replaced = [] } = withLocal({ ...before, ...(found === undefined ? {} : { local: digest(found) }) }, undefined, this.now);
      this.#base = { key: KEY, replaced };
    } else if (action.kind === 'delete-remote') {
      this.writes += 1;
      this.store(undefined);
    } else if (action.kind === 'forget') {
      const { replaced = [] } = withLocal(before, undefined, this.now);
      this.#base = replaced.length === 0 ? undefined : { key: KEY, replaced };
    }
  }
}

const FIRST = { type: 'claude', note: 'first', ...grant(1) };

describe('an echo', () => {
  test('of the content that we replaced is repaired and travels nowhere', () => {
    const replica = new Replica(FIRST);
    replica.store({ ...FIRST, note: 'from elsewhere' });
    expect(replica.settle()).toEqual(['pull']);
    replica.show(FIRST);
    expect(replica.settle()).toEqual(['repair']);
    expect(replica.file).toMatchObject({ note: 'from elsewhere' });
    expect(replica.writes).toBe(1);
  });

  test('of what a person replaced is repaired too', () => {
    const replica = new Replica(FIRST);
    replica.show({ ...FIRST, note: 'by a person' });
    expect(replica.settle()).toEqual(['push']);
    replica.now += 20;
    replica.show({ ...FIRST, disabled: false });
    expect(replica.settle()).toEqual(['repair']);
    expect(replica.settings()).toEqual({ type: 'claude', note: 'by a person' });
  });

  test('with a change of another setting keeps the change', () => {
    const replica = new Replica(FIRST);
    replica.store({ ...FIRST, note: 'from elsewhere' });
    replica.settle();
    replica.show({ ...FIRST, priority: 3 });
    expect(replica.settle()).toEqual(['push']);
    expect(replica.settings()).toEqual({ type: 'claude', note: 'from elsewhere', priority: 3 });
  });

  test('of an older grant is recognised however late it comes', () => {
    const replica = new Replica(FIRST);
    replica.store({ ...FIRST, note: 'kept', ...grant(2) });
    replica.settle();
    replica.now += 3_600_000;
    replica.show({ ...FIRST, note: 'old', priority: 9 });
    expect(replica.settle()).toEqual(['repair']);
    expect(replica.settings()).toEqual({ type: 'claude', note: 'kept' });
  });

  test('of a deleted credential is deleted again; the same file a while later is a person who brings it back', () => {
    const replica = new Replica(FIRST);
    replica.store(undefined);
    expect(replica.settle()).toEqual(['delete-local']);
    replica.now += 900;
    replica.show({ ...FIRST, disabled: false });
    expect(replica.settle()).toEqual(['delete-local']);
    replica.now += 6000;
    replica.show(FIRST);
    expect(replica.settle()).toEqual(['push']);
  });

  test('that arrives while its deletion is on the way is no edit that would beat it', () => {
    const replica = new Replica(FIRST);
    replica.store({ ...FIRST, note: 'second' });
    replica.settle();
    replica.now += 20;
    replica.show(FIRST);
    replica.store(undefined);
    expect(replica.settle()).toEqual(['delete-local']);
    expect(replica.stored).toBeUndefined();
  });
});

test('a refresh in flight brings its grant, and none of the settings with which it began', () => {
  const replica = new Replica({ ...FIRST, proxy_url: 'http://old' });
  replica.store({ type: 'claude', note: 'new', disabled: true, ...grant(1) });
  replica.settle();
  replica.now += 90_000;
  replica.show({ ...FIRST, proxy_url: 'http://old', ...grant(2) });
  expect(replica.settle()).toEqual(['push']);
  expect(replica.stored).toEqual({ type: 'claude', note: 'new', disabled: true, ...grant(2) });
  expect(replica.file).toEqual(replica.stored);
});

test('a file that was deleted and comes back with a new grant is a new credential', () => {
  const replica = new Replica(FIRST);
  replica.store(undefined);
  replica.settle();
  replica.show({ ...FIRST, ...grant(2) });
  expect(replica.settle()).toEqual(['push']);
  expect(replica.stored).toMatchObject(grant(2));
});

test("a person's edit back to an old value counts once the window is over", () => {
  const replica = new Replica(FIRST);
  replica.show({ ...FIRST, note: 'second' });
  replica.settle();
  replica.now += 5001;
  replica.show(FIRST);
  expect(replica.settle()).toEqual(['push']);
  expect(replica.settings()).toEqual({ type: 'claude', note: 'first' });
});

type Step =
  | { readonly kind: 'elsewhere' | 'person'; readonly field: string }
  | { readonly kind: 'elsewhere refreshes' }
  | { readonly kind: 'echo' | 'refresh'; readonly pick: number }
  | { readonly kind: 'time'; readonly ms: number };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.record({ kind: fc.constantFrom('elsewhere' as const, 'person' as const), field: fc.constantFrom('note', 'disabled', 'proxy_url') }),
    fc.record({ kind: fc.constant('elsewhere refreshes' as const) }),
    fc.record({ kind: fc.constantFrom('echo' as const, 'refresh' as const), pick: fc.nat(20) }),
    fc.record({ kind: fc.constant('time' as const), ms: fc.constantFrom(1, 100, 3000, 30_000, 200_000) }),
  ),
  { maxLength: 25 },
);

test('no sequence of saves by CLIProxyAPI changes the store, except by a grant or an edit that is really new', () => {
  fc.assert(
    fc.property(steps, (sequence) => {
      const replica = new Replica(FIRST);
      const intended: Record<string, unknown> = { type: 'claude', note: 'first' };
      let issued = 1;
      let newest = grant(1);
      for (const step of sequence) {
        const { file, stored } = replica;
        if (file === undefined || stored === undefined) throw new Error('it was deleted');
        const inMemory = (withinMs: number): JsonObject[] =>
          replica.shown.filter(({ until }) => until >= replica.now - withinMs).map(({ fields }) => fields);
        const pickOf = (choices: JsonObject[], pick: number): JsonObject => choices[pick % choices.length] ?? file;
        switch (step.kind) {
          case 'time':
            replica.now += step.ms;
            break;
          case 'elsewhere':
          case 'person': {
            const value = `value ${String(replica.revision)} ${String(replica.shown.length)} ${String(replica.now)}`;
            intended[step.field] = value;
            if (step.kind === 'person') replica.show({ ...file, [step.field]: value });
            else replica.store({ ...stored, [step.field]: value });
            break;
          }
          case 'elsewhere refreshes':
            issued += 1;
            newest = grant(issued);
            replica.store({ ...stored, ...newest });
            break;
          case 'echo':
            replica.show({ disabled: false, ...pickOf(inMemory(4000), step.pick) });
            break;
          case 'refresh':
            issued += 1;
            newest = grant(issued);
            replica.show({ ...pickOf(inMemory(93_000), step.pick), ...newest });
            break;
        }
        if (step.kind === 'time') continue;
        const { writes } = replica;
        replica.settle();
        if (step.kind === 'echo' && replica.stored !== undefined && intended['disabled'] === undefined) {
          if (replica.settings()['disabled'] === false) intended['disabled'] = false;
        }
        expect(replica.settings()).toEqual(intended);
        expect(grantOf(replica.stored ?? {})).toEqual(newest);
        expect(digest(credentialOf(replica.file ?? {})).hash).toBe(digest(credentialOf(replica.stored ?? {})).hash);
        if (step.kind === 'echo') expect(replica.writes - writes).toBeLessThanOrEqual(1);
      }
    }),
    { numRuns: 2000 },
  );
});
