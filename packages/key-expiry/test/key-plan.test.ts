import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { isSentinel, isTemplate, planKeys, SENTINEL_PREFIX, type KnownKey } from '../src/index.js';

const sentinel = `${SENTINEL_PREFIX}of-this-registry`;
const hashOf = (key: string): string => `#${key}`;
const known = (key: string, isWanted: boolean): KnownKey => ({
  id: `id of ${key}`,
  hash: hashOf(key),
  mask: key,
  isWanted,
  expiresAt: null,
  key: isWanted ? key : undefined,
});
const plan = (keys: readonly KnownKey[], current: readonly string[], applied: readonly string[] = []) =>
  planKeys({ known: keys, current, applied, sentinel, hashOf });

describe('the list that CLIProxyAPI should have', () => {
  test('gets what is missing, loses what is not valid any more, and keeps what nobody registered', () => {
    const result = plan([known('new', true), known('old', false)], ['foreign', 'old', sentinel], ['id of old']);
    expect(result).toMatchObject({
      next: ['foreign', sentinel, 'new'],
      added: ['new'],
      removed: ['old'],
      foreign: ['…'],
      cameBack: [],
      putBack: [],
    });
  });

  test('is closed by a sentinel, always: whatever others take out meanwhile, it is never empty', () => {
    expect(plan([known('old', false)], ['old'])).toMatchObject({ next: [sentinel], added: [sentinel], removed: ['old'] });
    expect(plan([known('new', true)], [])).toMatchObject({ next: [sentinel, 'new'], added: [sentinel, 'new'] });
    expect(plan([known('new', true)], [sentinel])).toMatchObject({ next: [sentinel, 'new'], removed: [] });
    expect(plan([known('new', true)], [sentinel, 'new'])).toMatchObject({ added: [], removed: [] });
  });

  test('never has the keys of the template, and takes the sentinel of another registry for its own', () => {
    const other = `${SENTINEL_PREFIX}of-another`;
    expect(plan([known('old', false)], ['your-api-key-1', other])).toMatchObject({ next: [other], removed: ['your-api-key-1'] });
  });

  test('says what somebody took out, and what an old config brought back', () => {
    expect(plan([known('mine', true)], ['foreign'], ['id of mine']).putBack).toEqual(['id of mine']);
    expect(plan([known('gone', false)], ['gone'], []).cameBack).toEqual(['id of gone']);
  });

  test('leaves out what cannot be decrypted, and keeps it where it is there', () => {
    const unreadable = { ...known('kept', true), key: undefined };
    expect(plan([unreadable], ['kept']).next).toEqual(['kept', sentinel]);
    expect(plan([unreadable], []).next).toEqual([sentinel]);
  });

  test('whatever there is: never empty, never a template, nothing twice, every foreign key stays, and a second run changes nothing', () => {
    const name = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'your-api-key-2', sentinel);
    const keys = fc.uniqueArray(fc.record({ key: fc.constantFrom('a', 'b', 'c'), isWanted: fc.boolean() }), { selector: ({ key }) => key });
    fc.assert(
      fc.property(keys, fc.array(name), (registered, current) => {
        const all = registered.map(({ key, isWanted }) => known(key, isWanted));
        const { next, added, removed } = plan(all, current);
        expect(next.some(isSentinel)).toBe(true);
        expect(removed.some(isSentinel)).toBe(false);
        expect(next.some(isTemplate)).toBe(false);
        expect(new Set(next).size).toBe(next.length);
        const isForeign = (key: string): boolean => !all.some(({ hash }) => hash === hashOf(key)) && !isTemplate(key) && !isSentinel(key);
        expect(next.filter(isForeign).sort()).toEqual([...new Set(current.filter(isForeign))].sort());
        expect([...new Set([...current, ...added])].filter((key) => !removed.includes(key)).sort()).toEqual([...next].sort());
        expect(plan(all, next)).toMatchObject({ added: [], removed: [] });
      }),
    );
  });
});
