import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import {
  checkFormat,
  hasSubstance,
  isMassDeletion,
  readDocument,
  readDocumentKey,
  shownName,
  workspaceLens,
  type DocumentKey,
} from '@tokenmirror/core';
import { configOf, credentialOf, digest, HOST_SECTIONS, KEY } from './arbitrary.js';

const CONFIG = 'config/config.yaml' as DocumentKey;

describe('keys are untrusted', () => {
  test.each(['auths/claude-a@b.c.json', 'auths/team/gemini-a-project.json', "auths/odd name 'ü'.json", 'config/config.yaml'])(
    '%j is a document',
    (name) => {
      expect(readDocumentKey(name)).toEqual({ ok: true, key: name });
    },
  );

  test.each([
    'auths/../../etc/x.json',
    'auths//etc/passwd.json',
    'auths/a/../b.json',
    'auths/a\u0000.json',
    'auths/a\nb.json',
    'auths/C:/x.json',
    'auths/a\\b.json',
    `auths/${'x'.repeat(300)}.json`,
    'auths/\ud800.json',
  ])('%j is refused with a reason', (name) => {
    expect(readDocumentKey(name)).toMatchObject({ ok: false, ignored: false });
  });

  test.each([
    'auths/.hidden.json',
    'auths/a.json.tmp',
    'auths/.DS_Store',
    'auths/logs/x.log',
    'auths/.git/x.json',
    'auths/.json',
    'other/a.json',
    'config/other.yaml',
  ])('%j is ignored', (name) => {
    expect(readDocumentKey(name)).toMatchObject({ ok: false, ignored: true });
  });

  test('any name either stays below its root or is not accepted', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), (path) => {
        const reading = readDocumentKey(`auths/${path}`);
        if (reading.ok) expect(new URL(reading.key, 'file:///root/').pathname.startsWith('/root/auths/')).toBe(true);
      }),
      { numRuns: 3000 },
    );
  });

  test('names are shown without control characters', () => {
    expect(shownName('a\u001b[31m\nb')).toBe('a\\u001b[31m\\u000ab');
  });
});

describe('content is read strictly', () => {
  const nested = `${'{"a":'.repeat(80)}1${'}'.repeat(80)}`;
  test.each<[string, string | Uint8Array, string]>([
    ['empty', '', 'blank'],
    ['white space', ' \n', 'blank'],
    ['an empty object', '{}', 'blank'],
    ['an array', '[]', 'refused'],
    ['cut', '{"type":"claude","acc', 'refused'],
    ['duplicate keys', '{"a":1,"a":2}', 'refused'],
    ['deep nesting', nested, 'refused'],
    ['very deep nesting', '['.repeat(400_000), 'refused'],
    ['invalid UTF-8', new Uint8Array([0x7b, 0xff, 0xfe, 0x7d]), 'refused'],
    ['a NUL in a string', '{"a":"\\u0000"}', 'refused'],
    ['half a surrogate pair', '{"a":"\\ud800"}', 'refused'],
    ['an integer beyond 2^53', '{"a":12345678901234567890}', 'refused'],
    ['5 MB', `{"a":"${'x'.repeat(5_000_000)}"}`, 'refused'],
    ['a credential', '{"type":"claude","access_token":"x"}', 'document'],
  ])('%s', (_, content, state) => {
    expect(readDocument(KEY, content).state).toBe(state);
  });

  test.each<[string, string, string]>([
    ['empty', '', 'blank'],
    ['a list', '- a\n', 'refused'],
    ['a flow mapping', '{a: 1}\n', 'refused'],
    ['broken', 'a: [1\n', 'refused'],
    ['duplicate keys', 'a: 1\na: 2\n', 'refused'],
    ['a config', 'port: 8317\n', 'document'],
  ])('config: %s', (_, content, state) => {
    expect(readDocument(CONFIG, content).state).toBe(state);
  });

  test('no bytes make it throw', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.constantFrom(KEY, CONFIG), (bytes, key) => {
        expect(['document', 'blank', 'refused']).toContain(readDocument(key, bytes).state);
      }),
      { numRuns: 3000 },
    );
  });
});

describe('equality', () => {
  test('is of canonical content: key order, white space and escapes are no difference', () => {
    const one = readDocument(KEY, '{"type":"claude","access_token":"x","note":"é"}');
    const two = readDocument(KEY, '{ "note": "\\u00e9", "access_token": "x",\n "type": "claude" }');
    if (one.state !== 'document' || two.state !== 'document') throw new Error('not read');
    expect(digest(one.document)).toEqual(digest(two.document));
  });

  test('a digest holds nothing of the content, and a fingerprint is of the access token alone', () => {
    const document = credentialOf({ type: 'claude', access_token: 'secret-access', refresh_token: 'secret-refresh' });
    expect(JSON.stringify(digest(document))).not.toContain('secret');
    const other = credentialOf({ type: 'claude', access_token: 'secret-access', refresh_token: 'another' });
    expect(digest(other).fingerprint).toBe(digest(document).fingerprint);
    expect(digest(other).grant).not.toBe(digest(document).grant);
  });

  test('a service account has substance, a blanked credential has none', () => {
    expect(hasSubstance({ type: 'vertex', service_account: { private_key: 'x' } })).toBe(true);
    expect(hasSubstance({ type: 'gemini', token: { access_token: 'x' } })).toBe(true);
    expect(hasSubstance({ type: 'claude', access_token: '', refresh_token: ' ', email: 'a@b.c', disabled: true })).toBe(false);
  });
});

describe('the lens', () => {
  const lens = workspaceLens(HOST_SECTIONS);
  const stored = configOf('port: 8317\nauth-dir: "/store"\ndebug: true\n');
  const local = configOf('debug: false\nport: 9000\n');

  test('a host keeps its own sections, and gets the ones it lacks', () => {
    expect(lens.present(stored, local).text).toBe('port: 9000\nauth-dir: "/store"\ndebug: true\n');
    expect(lens.present(stored, undefined).text).toBe(stored.text);
  });

  test('the sections of a host do not reach the store', () => {
    expect(lens.absorb(local, stored).text).toBe('debug: false\nport: 8317\nauth-dir: "/store"\n');
  });

  test('what was presented is absorbed as what was stored', () => {
    expect(digest(lens.absorb(lens.present(stored, local), stored))).toEqual(digest(stored));
  });
});

test.each([
  [1, 1, false],
  [1, 2, false],
  [2, 2, true],
  [3, 4, false],
  [3, 3, true],
  [4, 8, false],
  [4, 7, true],
  [4, 100, false],
  [51, 100, true],
])('deleting %i of %i at once looks like an accident: %s', (deletions, population, expected) => {
  expect(isMassDeletion(deletions, population)).toBe(expected);
});

test('formats: an adjacent newer one is read, one that needs a newer reader or none at all is refused', () => {
  expect(checkFormat({ format: 1, oldestReader: 1 }, 'x')).toBe('current');
  expect(checkFormat({ format: 2, oldestReader: 1 }, 'x')).toBe('current');
  expect(checkFormat({ format: 1, oldestReader: 1 }, 'x', { format: 2, oldestReader: 1 })).toBe('older');
  expect(() => checkFormat({ format: 3, oldestReader: 2 }, 'x')).toThrow(expect.objectContaining({ code: 'FORMAT_NEWER' }));
  expect(() => checkFormat({}, 'x')).toThrow(expect.objectContaining({ code: 'FORMAT_DAMAGED' }));
});
