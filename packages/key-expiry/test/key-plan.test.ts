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
  key: isWanted ? key : undefined,
});
const plan = (keys: readonly KnownKey[], current: readonly string[], applied: readonly string[] = []) =>
  planKeys({ known: keys, current, applied, sentinel, hashOf });

describe('the list that CLIProxyAPI should have', () => {
  test('gets what is missing, loses what is not valid any more, and keeps what nobody registered', () => {
    const result = plan([known('new', true), known('old', false)], ['foreign', 'old'], ['id of old']);
    expect(result).toMatchObject({ next: ['foreign', 'new'], added: ['new'], removed: ['old'], foreign: ['…'], cameBack: [], putBack: [] });
  });

  test('is closed by a sentinel where it would be empty, which goes as soon as there is a key', () => {
    expect(plan([known('old', false)], ['old'])).toMatchObject({ next: [sentinel], added: [sentinel], removed: ['old'] });
    expect(plan([known('old', false)], [sentinel])).toMatchObject({ added: [], removed: [] });
    expect(plan([known('new', true)], [sentinel])).toMatchObject({ next: ['new'], removed: [sentinel] });
  });

  test('never has the keys of the template, and one sentinel of its own', () => {
    const other = `${SENTINEL_PREFIX}of-another`;
    expect(plan([known('old', false)], ['your-api-key-1', other])).toMatchObject({ next: [sentinel] });
  });

  test('says what somebody took out, and what an old config brought back', () => {
    expect(plan([known('mine', true)], ['foreign'], ['id of mine']).putBack).toEqual(['id of mine']);
    expect(plan([known('gone', false)], ['gone'], []).cameBack).toEqual(['id of gone']);
  });

  test('leaves out what cannot be decrypted, and keeps it where it is there', () => {
    const unreadable = { ...known('kept', true), key: undefined };
    expect(plan([unreadable], ['kept']).next).toEqual(['kept']);
    expect(plan([unreadable], []).next).toEqual([sentinel]);
  });

  test('whatever there is: never empty, never a template, nothing twice, every foreign key stays, and a second run changes nothing', () => {
    const name = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'your-api-key-2', sentinel);
    const keys = fc.uniqueArray(fc.record({ key: fc.constantFrom('a', 'b', 'c'), isWanted: fc.boolean() }), { selector: ({ key }) => key });
    fc.assert(
      fc.property(keys, fc.array(name), (registered, current) => {
        const all = registered.map(({ key, isWanted }) => known(key, isWanted));
        const { next, added, removed } = plan(all, current);
        expect(next.length).toBeGreaterThan(0);
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
