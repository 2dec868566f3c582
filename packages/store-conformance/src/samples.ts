import assert from 'node:assert/strict';
import { readDocumentKey, type Change, type DocumentKey, type Revision, type TokenStore, type WriteOutcome } from '@tokenmirror/core';

export const AUTHOR = 'conformance-replica';

export function credentialKey(name: string): DocumentKey {
  const reading = readDocumentKey(`auths/${name}.json`);
  assert.ok(reading.ok);
  return reading.key;
}

export function credentialText(token: string, more: Record<string, unknown> = {}): string {
  return JSON.stringify({ type: 'claude', access_token: `access-${token}`, refresh_token: `refresh-${token}`, ...more });
}

export function change(key: DocumentKey, expected: Revision | 'absent', content: string | null): Change {
  return { key, expected, content, lineage: [] };
}

/** Writes one change and returns its revision; fails when it was not written. */
export async function put(store: TokenStore, key: DocumentKey, expected: Revision | 'absent', content: string | null): Promise<Revision> {
  const [outcome] = await store.write([change(key, expected, content)], AUTHOR);
  assert.equal(outcome?.status, 'written');
  return outcome.revision;
}

export function count(outcomes: readonly WriteOutcome[], status: WriteOutcome['status']): number {
  return outcomes.filter((outcome) => outcome.status === status).length;
}

export function sameJson(actual: string | undefined, expected: string): void {
  assert.deepEqual(JSON.parse(actual ?? 'null'), JSON.parse(expected));
}

/** Waits for a condition; fails after `timeoutMs`. */
export async function eventually(what: string, condition: () => Promise<boolean>, timeoutMs = 10_000): Promise<void> {
  const end = performance.now() + timeoutMs;
  while (!(await condition())) {
    assert.ok(performance.now() < end, `not within ${String(timeoutMs)} ms: ${what}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
