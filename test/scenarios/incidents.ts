import { expect } from '@jest/globals';
import type { Scenario } from './scenario.js';

export const A = 'auths/claude-a@example.com.json';
export const B = 'auths/codex-b@example.com.json';
export const CONFIG = 'config/config.yaml';

/** A credential whose grant is the nth one, all of the same length. */
export function cred(n: number, more: Record<string, unknown> = {}): Record<string, unknown> {
  const at = new Date(Date.UTC(2026, 0, 1, n)).toISOString();
  return {
    type: 'claude',
    access_token: `access-000${String(n)}`,
    refresh_token: `refresh-000${String(n)}`,
    expired: at,
    disabled: false,
    ...more,
  };
}
export const text = (value: Record<string, unknown>): string => JSON.stringify(value);
const REAL_CONFIG = '# keep me\napi-keys:\n  - real-key-1\nremote-management:\n  secret-key: real-secret\ndebug: false\n';

/** What happened to setups of this kind elsewhere, and what happens here instead. */
export const INCIDENTS: readonly Scenario[] = [
  {
    incident: 1,
    title: 'a rotated token of the same size arrives, whatever the times of the files say',
    steps: [
      { write: A, at: 'a', text: text(cred(1)), mtime: new Date('2026-01-01') },
      { sync: 'a' },
      { sync: 'b' },
      { write: A, at: 'a', text: text(cred(2)), mtime: new Date('2026-01-01') },
      { sync: 'a' },
      { sync: 'b' },
    ],
    everywhere: { [A]: cred(2) },
  },
  {
    incident: 2,
    title: 'a newer local grant is not overwritten by the older one in the store, though its file looks older',
    steps: [
      { write: A, at: 'a', text: text(cred(1)) },
      { sync: 'a' },
      { write: A, at: 'a', text: text(cred(2)), mtime: new Date('2020-01-01') },
      { sync: 'a' },
    ],
    everywhere: { [A]: cred(2) },
  },
  {
    incident: 3,
    title: 'a host that had been off does not push its stale file over the fresh one, with or without memory of the past',
    steps: [
      { write: A, at: 'a', text: text(cred(1)) },
      { sync: 'a' },
      { sync: 'b' },
      { write: A, at: 'a', text: text(cred(2)) },
      { sync: 'a' },
      { write: A, at: 'c', text: text(cred(1)), mtime: new Date('2030-01-01') },
      { sync: 'c' },
      { sync: 'b' },
    ],
    everywhere: { [A]: cred(2) },
  },
  {
    incident: 4,
    title: 'what was deleted does not come back from anywhere',
    steps: [
      { write: A, at: 'a', text: text(cred(1)) },
      { write: B, at: 'a', text: text(cred(1)) },
      { sync: 'a' },
      { sync: 'b' },
      { remove: A, at: 'a' },
      { sync: 'a' },
      { sync: 'b' },
      { sync: 'a' },
    ],
    everywhere: { [A]: undefined, [B]: cred(1) },
  },
  {
    incident: 5,
    title: 'a wiped auth directory deletes nothing, and is filled again',
    steps: [
      { write: A, at: 'a', text: text(cred(1)) },
      { write: B, at: 'a', text: text(cred(1)) },
      { sync: 'a' },
      { wipe: 'a' },
      { sync: 'a' },
    ],
    everywhere: { [A]: cred(1), [B]: cred(1) },
  },
  {
    incident: 7,
    title: 'temporary, hidden and foreign files stay where they are',
    steps: [
      { write: A, at: 'a', text: text(cred(1)) },
      { write: 'auths/claude.json.tmp', at: 'a', text: text(cred(1)) },
      { write: 'auths/.hidden.json', at: 'a', text: text(cred(1)) },
      { write: 'auths/.DS_Store', at: 'a', text: 'x' },
      { write: 'auths/logs/main.log', at: 'a', text: 'x' },
      { write: 'auths/empty.json', at: 'a', text: '' },
      { sync: 'a' },
      { sync: 'b' },
      {
        check: async ({ storedNames }) => {
          expect(await storedNames()).toEqual([A]);
        },
      },
    ],
    everywhere: { [A]: cred(1) },
  },
  {
    incident: 8,
    title: 'an empty object in the store does not replace a good credential',
    steps: [{ write: A, at: 'a', text: text(cred(1)) }, { sync: 'a' }, { foreign: A, text: '{}' }, { sync: 'a' }, { sync: 'b' }],
    everywhere: { [A]: cred(1) },
  },
  {
    incident: 8,
    title: 'a file that became empty, or an empty object, is repaired from the store',
    steps: [
      { write: A, at: 'a', text: text(cred(1)) },
      { write: B, at: 'a', text: text(cred(2)) },
      { sync: 'a' },
      { sync: 'b' },
      { write: A, at: 'b', text: '' },
      { write: B, at: 'b', text: '{}' },
      { sync: 'b' },
      { sync: 'a' },
    ],
    everywhere: { [A]: cred(1), [B]: cred(2) },
  },
  {
    incident: 9,
    title: 'a two-field stub does not replace the credential; the setting in it counts',
    steps: [
      { write: A, at: 'a', text: text(cred(1, { note: 'kept' })) },
      { sync: 'a' },
      { sync: 'b' },
      { write: A, at: 'b', text: '{"type":"claude","disabled":true}' },
      { sync: 'b' },
      { sync: 'a' },
    ],
    everywhere: { [A]: cred(1, { note: 'kept', disabled: true }) },
  },
  {
    incident: 10,
    title: 'pulled credentials are private to their user',
    steps: [
      { write: A, at: 'a', text: text(cred(1)), mode: 0o644 },
      { sync: 'a' },
      { sync: 'b' },
      {
        check: ({ mode }) => {
          expect(mode('b', A)).toBe(0o600);
        },
      },
    ],
    everywhere: { [A]: cred(1) },
  },
  {
    incident: 15,
    title: 'a login that was not uploaded yet survives whatever comes from the store',
    steps: [
      { write: A, at: 'a', text: text(cred(1)) },
      { sync: 'a' },
      { write: B, at: 'b', text: text(cred(3)) },
      { sync: 'b' },
      { sync: 'a' },
    ],
    everywhere: { [A]: cred(1), [B]: cred(3) },
  },
  {
    incident: 18,
    title: 'an edited config is not reverted, and both edits survive',
    steps: [
      { write: CONFIG, at: 'a', text: REAL_CONFIG },
      { sync: 'a' },
      { sync: 'b' },
      { write: CONFIG, at: 'a', text: REAL_CONFIG.replace('debug: false', 'debug: true') },
      { write: CONFIG, at: 'b', text: REAL_CONFIG.replace('- real-key-1', '- real-key-1\n  - real-key-2') },
      { sync: 'a' },
      { sync: 'b' },
      { sync: 'a' },
    ],
    everywhere: { [CONFIG]: REAL_CONFIG.replace('debug: false', 'debug: true').replace('- real-key-1', '- real-key-1\n  - real-key-2') },
  },
  {
    incident: 19,
    title: 'a config whose keys became empty or template values does not travel',
    steps: [
      { write: CONFIG, at: 'a', text: REAL_CONFIG },
      { sync: 'a' },
      { sync: 'b' },
      { write: CONFIG, at: 'a', text: REAL_CONFIG.replace('real-key-1', '${API_KEY}') },
      { sync: 'a' },
      { sync: 'b' },
      {
        check: async ({ stored, text: textOf, results }) => {
          expect(await stored(CONFIG)).toBe(REAL_CONFIG);
          expect(textOf('b', CONFIG)).toBe(REAL_CONFIG);
          expect(results.a?.status.refusals).toMatchObject([{ name: CONFIG, side: 'workspace' }]);
        },
      },
      { write: CONFIG, at: 'a', text: REAL_CONFIG },
      { foreign: CONFIG, text: 'debug: true\n' },
      { sync: 'b' },
      {
        check: ({ text: textOf, results }) => {
          expect(textOf('b', CONFIG)).toBe(REAL_CONFIG);
          expect(results.b?.status.refusals).toMatchObject([{ name: CONFIG, side: 'store' }]);
        },
      },
      { foreign: CONFIG, text: `${REAL_CONFIG}mended: true\n` },
    ],
    everywhere: { [CONFIG]: `${REAL_CONFIG}mended: true\n` },
  },
  {
    incident: 20,
    title: 'a copy without its refresh token does not replace the whole one in the store, from a workspace or by a foreign hand',
    steps: [
      { write: A, at: 'a', text: text(cred(1)) },
      { sync: 'a' },
      { sync: 'b' },
      { write: A, at: 'b', text: text(cred(1, { refresh_token: undefined })) },
      { sync: 'b' },
      { foreign: A, text: text(cred(1, { refresh_token: undefined, note: 'by a foreign hand' })) },
      { sync: 'a' },
      { sync: 'b' },
    ],
    everywhere: { [A]: cred(1, { note: 'by a foreign hand' }) },
  },
  {
    incident: 21,
    title: 'a refresh that wrote back an old copy does not bring its old settings: disabled and proxy_url stay, the grant counts',
    steps: [
      { write: A, at: 'a', text: text(cred(1)) },
      { sync: 'a' },
      { sync: 'b' },
      { write: A, at: 'a', text: text(cred(1, { disabled: true, proxy_url: 'http://p' })) },
      { sync: 'a' },
      { write: A, at: 'b', text: text(cred(2)) },
      { sync: 'b' },
      { sync: 'a' },
    ],
    everywhere: { [A]: cred(2, { disabled: true, proxy_url: 'http://p' }) },
  },
  {
    incident: 22,
    title: 'one change among many costs one write',
    steps: [
      ...Array.from({ length: 40 }, (_, n) => ({
        write: `auths/many-${String(n)}.json`,
        at: 'a' as const,
        text: text(cred(n % 9, { note: `number ${String(n)}` })),
      })),
      { sync: 'a' },
      { write: 'auths/many-7.json', at: 'a', text: text(cred(9, { note: 'changed' })) },
      { sync: 'a' },
      {
        check: ({ results }) => {
          expect(results.a?.actions.map(({ key, action }) => [key, action])).toEqual([['auths/many-7.json', 'push']]);
        },
      },
    ],
    everywhere: { 'auths/many-7.json': cred(9, { note: 'changed' }) },
  },
  {
    incident: 33,
    title: 'a blank token never wins over a whole one',
    steps: [
      { write: A, at: 'a', text: text(cred(1)) },
      { sync: 'a' },
      { sync: 'b' },
      { write: A, at: 'a', text: text(cred(2)) },
      { write: A, at: 'b', text: text(cred(1, { access_token: '', refresh_token: '' })) },
      { sync: 'a' },
      { sync: 'b' },
      { sync: 'a' },
    ],
    everywhere: { [A]: cred(2) },
  },
  {
    incident: 34,
    title: 'of two grants the later one wins as an instant, not as text in another time zone',
    steps: [
      { write: A, at: 'a', text: text(cred(1)) },
      { sync: 'a' },
      { sync: 'b' },
      { write: A, at: 'a', text: text(cred(2, { expired: '2026-06-01T09:00:00+09:00' })) },
      { write: A, at: 'b', text: text(cred(3, { expired: '2026-06-01T01:00:00Z' })) },
      { sync: 'a' },
      { sync: 'b' },
      { sync: 'a' },
    ],
    everywhere: { [A]: cred(3, { expired: '2026-06-01T01:00:00Z' }) },
  },
  {
    incident: 42,
    title: 'replicas that hash one secret differently and invent other device ids settle on one of each',
    steps: [
      { write: CONFIG, at: 'a', text: REAL_CONFIG },
      { write: A, at: 'a', text: text(cred(1)) },
      { sync: 'a' },
      { sync: 'b' },
      { write: CONFIG, at: 'a', text: REAL_CONFIG.replace('real-secret', '$2a$10$hash-of-a') },
      { write: CONFIG, at: 'b', text: REAL_CONFIG.replace('real-secret', '$2a$10$hash-of-b') },
      { write: A, at: 'a', text: text(cred(1, { claude_device_ids: ['a'] })) },
      { write: A, at: 'b', text: text(cred(1, { claude_device_ids: ['b'] })) },
      { sync: 'a' },
      { sync: 'b' },
      { sync: 'a' },
      { sync: 'b' },
      {
        check: ({ results }) => {
          expect(results.a?.actions).toEqual([]);
          expect(results.b?.actions).toEqual([]);
        },
      },
    ],
    everywhere: { [CONFIG]: REAL_CONFIG.replace('real-secret', '$2a$10$hash-of-a'), [A]: cred(1, { claude_device_ids: ['a'] }) },
  },
];
