import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  accessTokenOf,
  extendLineage,
  plan,
  type Action,
  type Base,
  type Document,
  type Fingerprint,
  type Local,
  type Remote,
  type Revision,
} from '@tokenmirror/core';
import { configOf, credentialOf, credentials, digest, grant, hasher, KEY, localOf, remoteOf } from './arbitrary.js';

const OLD = credentialOf({ type: 'claude', ...grant(1) });
const EDITED = credentialOf({ type: 'claude', note: 'edited', ...grant(1) });
const NEW = credentialOf({ type: 'claude', ...grant(2) });
const STUB = credentialOf({ type: 'claude', disabled: true });

function baseOf(local: Document | undefined, remote: Document | 'deleted' | undefined, revision = 'r1'): Base {
  return {
    key: KEY,
    ...(local === undefined ? {} : { local: digest(local) }),
    ...(remote === undefined
      ? {}
      : {
          remote:
            remote === 'deleted'
              ? { state: 'deleted', revision: revision as Revision }
              : { state: 'live', revision: revision as Revision, digest: digest(remote) },
        }),
  };
}

const absent: Local = { state: 'absent' };
const gone: Remote = { state: 'absent', confirmed: true };
const tombstone: Remote = { state: 'deleted', revision: 'r9' as Revision, lineage: [] };

function resultOf(action: Action): unknown {
  return 'document' in action && action.document.kind === 'credential' ? action.document.fields : undefined;
}

describe('plan follows the table', () => {
  const agreed = baseOf(OLD, OLD);
  test.each<[string, Local, Remote, Base | undefined, Action['kind']]>([
    ['nothing changed', localOf(OLD), remoteOf(OLD), agreed, 'nothing'],
    ['changed in the store', localOf(OLD), remoteOf(EDITED, 'r2'), agreed, 'pull'],
    ['deleted in the store', localOf(OLD), tombstone, agreed, 'delete-local'],
    ['changed here', localOf(EDITED), remoteOf(OLD), agreed, 'push'],
    ['changed on both sides to the same', localOf(EDITED), remoteOf(EDITED, 'r2'), agreed, 'adopt'],
    ['changed on both sides', localOf(EDITED), remoteOf(NEW, 'r2'), agreed, 'merge'],
    ['edited here, deleted in the store', localOf(EDITED), tombstone, agreed, 'push'],
    ['deleted here', absent, remoteOf(OLD), agreed, 'delete-remote'],
    ['deleted here, edited in the store', absent, remoteOf(EDITED, 'r2'), agreed, 'pull'],
    ['deleted on both sides', absent, tombstone, agreed, 'forget'],
    ['new here', localOf(OLD), gone, undefined, 'push'],
    ['new in the store', absent, remoteOf(OLD), undefined, 'pull'],
    ['no base, equal', localOf(OLD), remoteOf(OLD), undefined, 'adopt'],
    ['no base, a tombstone: nothing is deleted', localOf(OLD), tombstone, undefined, 'push'],
    ['nothing anywhere', absent, gone, undefined, 'nothing'],
    ['vanished from the store, seen once', localOf(OLD), { state: 'absent', confirmed: false }, agreed, 'recheck'],
    ['vanished from the store, seen twice', localOf(OLD), gone, agreed, 'push'],
    ['same content under a new revision', localOf(OLD), remoteOf(OLD, 'r2'), agreed, 'adopt'],
  ])('%s', (_, local, remote, base, kind) => {
    expect(plan(local, remote, base).kind).toBe(kind);
  });

  test('a deletion of config.yaml travels in neither direction', () => {
    const config = configOf('port: 1\napi-keys:\n  - k\n');
    const base: Base = { key: KEY, local: digest(config), remote: { state: 'live', revision: 'r1' as Revision, digest: digest(config) } };
    expect(plan(absent, remoteOf(config), base).kind).toBe('pull');
    expect(plan(localOf(config), tombstone, base).kind).toBe('push');
  });
});

describe('what is not whole never wins', () => {
  test.each<[string, Local, Remote, Action['kind']]>([
    ['a blank file is repaired from the store', { state: 'blank', reason: 'it is empty' }, remoteOf(OLD), 'pull'],
    ['a blank file alone is refused', { state: 'blank', reason: 'it is empty' }, gone, 'refuse'],
    ['a stub alone is refused', localOf(STUB), gone, 'refuse'],
    ['a stub in the store does not land', absent, remoteOf(STUB), 'refuse'],
    [
      'a blank document in the store is replaced',
      localOf(OLD),
      { state: 'blank', revision: 'r2' as Revision, lineage: [], reason: 'it is an empty object' },
      'push',
    ],
  ])('%s', (_, local, remote, kind) => {
    expect(plan(local, remote, baseOf(OLD, OLD)).kind).toBe(kind);
  });

  test('a stub keeps the grant and the other settings, and only its own change counts', () => {
    const whole = credentialOf({ type: 'claude', note: 'n', disabled: false, ...grant(1) });
    const action = plan(localOf(STUB), remoteOf(whole), baseOf(whole, whole));
    expect(resultOf(action)).toEqual({ type: 'claude', note: 'n', disabled: true, ...grant(1) });
  });

  test('a blanked refresh token does not replace a whole grant', () => {
    const blanked = credentialOf({ type: 'claude', ...grant(2), refresh_token: '' });
    expect(resultOf(plan(localOf(blanked), remoteOf(OLD), baseOf(OLD, OLD)))).toEqual({ type: 'claude', ...grant(1) });
  });
});

describe('grants', () => {
  const first = hasher.fingerprint('access-1');
  const second = hasher.fingerprint('access-2');

  test('one that was replaced is an echo, however old: the file is repaired, its new settings count', () => {
    const stale = credentialOf({ type: 'claude', note: 'edited', ...grant(1) });
    const action = plan(localOf(stale), remoteOf(NEW, 'r2', [first, second]), baseOf(OLD, NEW, 'r2'));
    expect(resultOf(action)).toEqual({ type: 'claude', note: 'edited', ...grant(2) });
  });

  test('a store that went back is repaired from this workspace, or the newest grant is sought', () => {
    const wentBack = remoteOf(OLD, 'r3', [first, second]);
    expect(resultOf(plan(localOf(NEW), wentBack, baseOf(NEW, NEW, 'r2')))).toEqual({ type: 'claude', ...grant(2) });
    expect(plan(localOf(OLD), wentBack, baseOf(NEW, NEW, 'r2'))).toEqual({ kind: 'seek-grant', fingerprint: second });
    expect(plan(absent, wentBack, undefined)).toEqual({ kind: 'seek-grant', fingerprint: second });
  });

  test('a store restored from a copy, lineage included, does not bring its older grant back', () => {
    const restored = remoteOf(credentialOf({ type: 'claude', note: 'of yesterday', ...grant(1) }), 'r9', [first]);
    expect(resultOf(plan(localOf(NEW), restored, baseOf(NEW, NEW, 'r2')))).toEqual({ type: 'claude', note: 'of yesterday', ...grant(2) });
    const renewed = remoteOf(credentialOf({ type: 'claude', ...grant(3) }), 'r9', [hasher.fingerprint('access-3')]);
    expect(resultOf(plan(localOf(NEW), renewed, baseOf(NEW, NEW, 'r2')))).toEqual({ type: 'claude', ...grant(3) });
  });

  test('a fork goes to the grant that was issued later, as instants and not as text', () => {
    const base = baseOf(OLD, OLD);
    const here = credentialOf({ type: 'claude', access_token: 'h', refresh_token: 'h', expired: '2026-01-01T10:00:00+05:00' });
    const there = credentialOf({ type: 'claude', access_token: 't', refresh_token: 't', expired: '2026-01-01T08:00:00Z' });
    expect(resultOf(plan(localOf(here), remoteOf(there, 'r2', [first, hasher.fingerprint('t')]), base))).toMatchObject({
      access_token: 't',
    });
    expect(resultOf(plan(localOf(there), remoteOf(here, 'r2', [first, hasher.fingerprint('h')]), base))).toMatchObject({
      access_token: 't',
    });
  });

  test('in a fork of two accounts the file says whose grant it holds, and keeps what else was set', () => {
    const login = (email: string, token: string, expired: string, more = {}): Document =>
      credentialOf({ type: 'claude', email, access_token: token, refresh_token: token, expired, ...more });
    const base = baseOf(login('a', 'o', '2026-01-01T00:00:00Z'), login('a', 'o', '2026-01-01T00:00:00Z'));
    const here = login('a', 'h', '2026-01-03T00:00:00Z');
    const there = login('b', 't', '2026-01-02T00:00:00Z', { note: 'kept' });
    const lineage = [hasher.fingerprint('o'), hasher.fingerprint('t')];
    expect(resultOf(plan(localOf(here), remoteOf(there, 'r2', lineage), base))).toMatchObject({
      email: 'a',
      access_token: 'h',
      note: 'kept',
    });
  });

  test('the age of an id token is worth more than the dates', () => {
    const jwt = (iat: number): string => `x.${Buffer.from(JSON.stringify({ iat })).toString('base64url')}.y`;
    const here = credentialOf({
      type: 'codex',
      access_token: 'h',
      refresh_token: 'h',
      id_token: jwt(200),
      expired: '2026-01-01T00:00:00Z',
    });
    const there = credentialOf({
      type: 'codex',
      access_token: 't',
      refresh_token: 't',
      id_token: jwt(100),
      expired: '2027-01-01T00:00:00Z',
    });
    expect(resultOf(plan(localOf(here), remoteOf(there, 'r2'), undefined))).toMatchObject({ access_token: 'h' });
  });

  test('a lineage moves a grant that comes back to its end, and stays bounded', () => {
    const lineage = Array.from({ length: 40 }, (_, n) => `f${String(n)}` as Fingerprint).reduce<readonly Fingerprint[]>(extendLineage, []);
    expect(lineage).toHaveLength(32);
    expect(extendLineage(lineage, lineage[3]).at(-1)).toBe(lineage[3]);
  });
});

describe('config.yaml', () => {
  const real = configOf('api-keys:\n  - real-key\nremote-management:\n  secret-key: real-secret\ndebug: false\n');
  const base: Base = { key: KEY, local: digest(real), remote: { state: 'live', revision: 'r1' as Revision, digest: digest(real) } };

  test.each([
    ['no keys', 'api-keys: []\nremote-management:\n  secret-key: real-secret\n'],
    ['the keys of the template', 'api-keys:\n  - your-api-key-1\n  - your-api-key-2\nremote-management:\n  secret-key: real-secret\n'],
    ['an empty key', 'api-keys:\n  - ""\nremote-management:\n  secret-key: real-secret\n'],
    ['a cut file', 'debug: false\n'],
    ['an empty management secret', 'api-keys:\n  - real-key\nremote-management:\n  secret-key: ""\n'],
  ])('one with %s is refused on both sides where real ones stood', (_, text) => {
    const bad = configOf(text);
    expect(plan(localOf(bad), remoteOf(real), base)).toMatchObject({ kind: 'refuse', side: 'workspace' });
    expect(plan(localOf(real), remoteOf(bad, 'r2'), base)).toMatchObject({ kind: 'refuse', side: 'store' });
  });

  test('sections merge, comments and order stay, and the authority wins where both changed one', () => {
    const text = '# header\n\n# about a\na: 1\nb: 2 # trailing\nc:\n  - x\n';
    const origin = configOf(text);
    const here = configOf(text.replace('a: 1', 'a: 10').replace('c:\n  - x\n', 'c:\n  - here\n'));
    const there = configOf(`${text.replace('- x', '- there')}d: new\n`);
    const action = plan(localOf(here), remoteOf(there, 'r2'), {
      key: KEY,
      local: digest(origin),
      remote: { state: 'live', revision: 'r1' as Revision, digest: digest(origin) },
    });
    expect(action).toMatchObject({ kind: 'merge', conflicts: ['c'] });
    expect('document' in action ? action.document.text : '').toBe('# header\n\n# about a\na: 10\nb: 2 # trailing\nc:\n  - there\nd: new\n');
  });

  test('line endings are no change, and the sections of the host are none', () => {
    const here = configOf('port: 1\r\ndebug: true\r\n');
    const there = configOf('port: 2\ndebug: true\n');
    expect(digest(here).hash).toBe(digest(there).hash);
  });
});

describe('properties', () => {
  /** Carries an action out on both sides, as the engine would. */
  function carriedOut(action: Action, local: Document, remote: Document): { local: Document; remote: Document } {
    return 'document' in action ? { local: action.document, remote: action.document } : { local, remote };
  }

  test('two documents with any common past settle in one step, and then stay', () => {
    fc.assert(
      fc.property(credentials, credentials, credentials, fc.boolean(), (origin, here, there, hasBase) => {
        const [o, h, t] = [credentialOf(origin), credentialOf(here), credentialOf(there)];
        const lineage = [hasher.fingerprint(accessTokenOf(there) ?? '')];
        const action = plan(localOf(h), remoteOf(t, 'r2', lineage), hasBase ? baseOf(o, o) : undefined);
        const after = carriedOut(action, h, t);
        expect(digest(after.local).hash).toBe(digest(after.remote).hash);
        const again = plan(localOf(after.local), remoteOf(after.remote, 'r3'), baseOf(after.local, after.remote, 'r3'));
        expect(again.kind).toBe('nothing');
      }),
      { numRuns: 2000 },
    );
  });

  test('no value is invented, and a grant is never mixed', () => {
    fc.assert(
      fc.property(credentials, credentials, credentials, (origin, here, there) => {
        const action = plan(
          localOf(credentialOf(here)),
          remoteOf(credentialOf(there), 'r2'),
          baseOf(credentialOf(origin), credentialOf(origin)),
        );
        if (!('document' in action) || action.document.kind !== 'credential') return;
        for (const [name, value] of Object.entries(action.document.fields)) expect([here[name], there[name]]).toContainEqual(value);
        const number = (fields: typeof here): unknown => fields['access_token'];
        const source = [here, there].find(
          (side) => number(side) === number(action.document.kind === 'credential' ? action.document.fields : {}),
        );
        expect(action.document.fields['refresh_token']).toBe(source?.['refresh_token']);
        expect(action.document.fields['expired']).toBe(source?.['expired']);
      }),
      { numRuns: 2000 },
    );
  });

  test('with whole grants on both sides, the newer of two that both changed survives', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 50 }), fc.integer({ min: 2, max: 50 }), (h, t) => {
        const base = baseOf(OLD, OLD);
        const lineage = [hasher.fingerprint('access-1'), hasher.fingerprint(`access-${String(t)}`)];
        const action = plan(
          localOf(credentialOf({ type: 'claude', ...grant(h) })),
          remoteOf(credentialOf({ type: 'claude', ...grant(t) }), 'r2', lineage),
          base,
        );
        expect(resultOf(action)).toMatchObject({ access_token: `access-${String(Math.max(h, t))}` });
      }),
    );
  });

  test('settings that different sides changed both survive, whichever side they were on', () => {
    fc.assert(
      fc.property(fc.boolean(), (swap) => {
        const origin = { type: 'claude', note: 'old', priority: 1, ...grant(1) };
        const [one, two] = [
          { ...origin, note: 'new' },
          { ...origin, priority: 2 },
        ];
        const [here, there] = swap ? [two, one] : [one, two];
        const action = plan(
          localOf(credentialOf(here)),
          remoteOf(credentialOf(there), 'r2'),
          baseOf(credentialOf(origin), credentialOf(origin)),
        );
        expect(resultOf(action)).toEqual({ ...origin, note: 'new', priority: 2 });
      }),
    );
  });

  test('removing a setting on one side removes it, with a base only', () => {
    const origin = { type: 'claude', note: 'old', ...grant(1) };
    const without = { type: 'claude', ...grant(1) };
    expect(
      resultOf(plan(localOf(credentialOf(without)), remoteOf(credentialOf(origin)), baseOf(credentialOf(origin), credentialOf(origin)))),
    ).toEqual(without);
    expect(resultOf(plan(localOf(credentialOf(without)), remoteOf(credentialOf(origin)), undefined))).toEqual(origin);
  });
});

describe('a copy without its refresh token', () => {
  const { refresh_token: taken, ...rest } = grant(2);
  const SEALED = credentialOf({ type: 'claude', ...rest });
  const [oldest, newest] = [digest(OLD).fingerprint, digest(NEW).fingerprint] as [Fingerprint, Fingerprint];

  test('is not taken for the repair of a store that went back in time, though its grant is the newest', () => {
    expect(taken).toBeDefined();
    expect(plan(localOf(SEALED), remoteOf(OLD, 'r2', [oldest, newest]), undefined)).toEqual({ kind: 'seek-grant', fingerprint: newest });
    expect(resultOf(plan(localOf(NEW), remoteOf(OLD, 'r2', [oldest, newest]), undefined))).toMatchObject(grant(2));
  });

  test('is not overwritten by a store that was restored to a time before it; a later grant is taken all the same', () => {
    const restored = remoteOf(OLD, 'r9', [oldest]);
    expect(plan(localOf(SEALED), restored, baseOf(SEALED, NEW, 'r2'))).toEqual({ kind: 'seek-grant', fingerprint: newest });
    const later = credentialOf({ type: 'claude', ...grant(3) });
    expect(resultOf(plan(localOf(SEALED), remoteOf(later, 'r9', [oldest]), baseOf(SEALED, NEW, 'r2')))).toMatchObject(grant(3));
  });

  test('does not bring a deleted credential back, unless its grant is a new one', () => {
    const deleted: Remote = { state: 'deleted', revision: 'r9' as Revision, lineage: [oldest, newest] };
    expect(plan(localOf(SEALED), deleted, undefined)).toEqual({ kind: 'delete-local', isEcho: false });
    expect(plan(localOf(NEW), deleted, undefined)).toMatchObject({ kind: 'push' });
    expect(plan(localOf(SEALED), { ...deleted, lineage: [oldest] }, undefined)).toMatchObject({ kind: 'push' });
  });
});
