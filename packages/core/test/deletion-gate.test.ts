import { describe, expect, test } from '@jest/globals';
import type { DocumentKey } from '../src/documents/document-key.js';
import { DeletionGate } from '../src/engine/deletion-gate.js';
import type { Clock } from '../src/ports/clock.js';

/** Time that the test moves. */
class ManualClock implements Clock {
  #now = 0;
  #timers: { readonly at: number; readonly callback: () => void }[] = [];
  now = (): number => this.#now;
  monotonic = (): number => this.#now;
  after(ms: number, callback: () => void): () => void {
    const timer = { at: this.#now + ms, callback };
    this.#timers.push(timer);
    return () => (this.#timers = this.#timers.filter((one) => one !== timer));
  }
  pass(ms: number): void {
    this.#now += ms;
    const due = this.#timers.filter(({ at }) => at <= this.#now);
    this.#timers = this.#timers.filter(({ at }) => at > this.#now);
    for (const { callback } of due) callback();
  }
}

const key = (n: number): DocumentKey => `auths/${String(n)}.json` as DocumentKey;

function gateFor(population: number, forced = false) {
  const clock = new ManualClock();
  const decisions: { readonly keys: readonly DocumentKey[]; readonly frozen: boolean }[] = [];
  const documents = new Set(Array.from({ length: population }, (_, n) => key(n)));
  const gate = new DeletionGate(
    clock,
    forced,
    () => documents,
    (keys, frozen) => decisions.push({ keys, frozen }),
  );
  const propose = (...numbers: number[]): boolean[] => numbers.map((n) => gate.propose(key(n), 'store'));
  const carryOut = (n: number): void => {
    if (!gate.propose(key(n), 'store')) throw new Error('not permitted');
    documents.delete(key(n));
  };
  return { clock, gate, decisions, propose, carryOut };
}

describe('the deletion gate', () => {
  test('lets a few deletions through after a moment', () => {
    const { clock, decisions, propose } = gateFor(10);
    expect(propose(1, 2)).toEqual([false, false]);
    clock.pass(300);
    expect(decisions).toEqual([{ keys: [key(1), key(2)], frozen: false }]);
    expect(propose(1, 2)).toEqual([true, true]);
  });

  test('freezes more than half, keeps them frozen when more arrive, and lets go when the documents are back', () => {
    const { clock, gate, decisions, propose } = gateFor(10);
    propose(1, 2, 3, 4, 5, 6);
    clock.pass(300);
    expect(decisions.at(-1)).toMatchObject({ frozen: true });
    propose(7);
    clock.pass(300);
    expect(gate.frozen).toHaveLength(7);
    for (let n = 1; n <= 7; n += 1) gate.withdraw(key(n));
    expect(gate.frozen).toEqual([]);
    propose(8);
    clock.pass(300);
    expect(decisions.at(-1)).toEqual({ keys: [key(8)], frozen: false });
  });

  test('counts what was deleted a moment before, once, and only if it happened', () => {
    const { clock, decisions, propose, carryOut } = gateFor(10);
    for (const n of [1, 2, 3]) propose(n);
    clock.pass(300);
    for (const n of [1, 2, 3]) carryOut(n);
    propose(4);
    clock.pass(300);
    expect(propose(4)).toEqual([true]);
    propose(4);
    clock.pass(300);
    expect(propose(4)).toEqual([true]);
    propose(5);
    clock.pass(300);
    expect(decisions.at(-1)).toEqual({ keys: [key(5)], frozen: false });
    carryOut(5);
    propose(6, 7);
    clock.pass(300);
    expect(decisions.at(-1)).toMatchObject({ frozen: true });
  });

  test('forgets after half a minute', () => {
    const { clock, decisions, propose, carryOut } = gateFor(10);
    propose(1, 2, 3, 4);
    clock.pass(300);
    for (const n of [1, 2, 3, 4]) carryOut(n);
    clock.pass(31_000);
    propose(5, 6);
    clock.pass(300);
    expect(decisions.at(-1)).toMatchObject({ frozen: false });
  });

  test('holds nothing back when forced', () => {
    const { clock, propose } = gateFor(4, true);
    propose(1, 2, 3, 4);
    clock.pass(300);
    expect(propose(1, 2, 3, 4)).toEqual([true, true, true, true]);
  });
});
