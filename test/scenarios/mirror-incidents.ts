import { expect } from '@jest/globals';
import { A, B, CONFIG, cred, text } from './incidents.js';
import type { Scenario } from './scenario.js';

const C = 'auths/kimi-c@example.com.json';

/** What went wrong with backups elsewhere, and what a mirror does instead. */
export const MIRROR_INCIDENTS: readonly Scenario[] = [
  {
    incident: 4,
    title: 'a deletion reaches the mirror, and nothing comes back from there',
    steps: [
      { write: A, at: 'a', text: text(cred(1)) },
      { write: B, at: 'a', text: text(cred(1)) },
      { sync: 'a' },
      { remove: A, at: 'a' },
      { sync: 'a' },
      {
        check: async ({ mirrored }) => {
          expect(await mirrored(A)).toBeUndefined();
        },
      },
      { foreign: A, text: text(cred(1)), in: 'mirror' },
      { sync: 'a' },
      { sync: 'b' },
    ],
    everywhere: { [A]: undefined, [B]: cred(1) },
  },
  {
    incident: 11,
    title: 'an older copy in the mirror does not win, and is brought up to date',
    steps: [
      { write: A, at: 'a', text: text(cred(1)) },
      { sync: 'a' },
      { write: A, at: 'a', text: text(cred(2)) },
      { sync: 'a' },
      { foreign: A, text: text(cred(1)), in: 'mirror' },
      { sync: 'b' },
    ],
    everywhere: { [A]: cred(2) },
  },
  {
    incident: 12,
    title: 'an authority that is empty, or has lost some, gets them from the mirror, document by document',
    steps: [
      { write: A, at: 'a', text: text(cred(1, { note: 'only the mirror has it' })) },
      { write: B, at: 'a', text: text(cred(2)) },
      { write: CONFIG, at: 'a', text: 'api-keys:\n  - real-key-1\n' },
      { sync: 'a' },
      { gone: 'a' },
      { lose: 'authority' },
      { foreign: B, text: '{}' },
      { sync: 'b' },
    ],
    everywhere: { [A]: cred(1, { note: 'only the mirror has it' }), [B]: cred(2), [CONFIG]: 'api-keys:\n  - real-key-1\n' },
  },
  {
    incident: 12,
    title: 'what an authority in use lacks comes back too, without a change of what it has',
    steps: [
      { write: A, at: 'a', text: text(cred(1)) },
      { write: B, at: 'a', text: text(cred(1)) },
      { sync: 'a' },
      { gone: 'a' },
      { lose: 'authority' },
      { foreign: B, text: text(cred(3, { note: 'newer' })) },
      { foreign: C, text: text(cred(1)) },
      { sync: 'b', adopt: true },
    ],
    everywhere: { [A]: cred(1), [B]: cred(3, { note: 'newer' }), [C]: cred(1) },
  },
  {
    incident: 11,
    title: 'a workspace in use is not put back to an older mirror when the authority is lost',
    steps: [
      { write: A, at: 'a', text: text(cred(1, { note: 'new', proxy_url: 'http://new' })) },
      { write: CONFIG, at: 'a', text: 'api-keys:\n  - the-new-key\n' },
      { sync: 'a' },
      { foreign: A, text: text(cred(1, { note: 'old', proxy_url: 'http://old' })), in: 'mirror' },
      { foreign: CONFIG, text: 'api-keys:\n  - the-revoked-key\n', in: 'mirror' },
      { foreign: B, text: text(cred(1)), in: 'mirror' },
      { lose: 'authority' },
      { sync: 'a', adopt: true },
    ],
    everywhere: { [A]: cred(1, { note: 'new', proxy_url: 'http://new' }), [B]: cred(1), [CONFIG]: 'api-keys:\n  - the-new-key\n' },
  },
  {
    incident: 28,
    title: 'a document that was destroyed in the authority does not destroy the copy in the mirror',
    steps: [
      { write: A, at: 'a', text: text(cred(1)) },
      { write: B, at: 'a', text: text(cred(1)) },
      { sync: 'a' },
      { foreign: A, text: '{"type":"claude","disabled":true}' },
      { foreign: B, text: '{}' },
      { sync: 'b' },
      {
        check: async ({ mirrored }) => {
          expect(await mirrored(A)).toMatchObject(cred(1, { disabled: expect.anything() }));
          expect(await mirrored(B)).toEqual(cred(1));
        },
      },
      { sync: 'a' },
    ],
    everywhere: { [A]: cred(1, { disabled: true }), [B]: cred(1) },
  },
];
