import { z } from 'zod';
import { callResp, type ManagementClient, type Outcome } from '@tokenmirror/cliproxy-client';

/**
 * How a CLIProxyAPI tells of usage.
 *
 * - `snapshot`: it keeps statistics and exports them (6.6.56 to 6.9.49).
 * - `resp-queue`: it hands records out once (from 6.10.0).
 * - `http-queue`: the same over HTTP (from 6.10.8), for where RESP does not come through.
 */
export type Interface = 'snapshot' | 'http-queue' | 'resp-queue';

const IMPORTED = z.object({ added: z.number(), skipped: z.number() });

/** Looks what there is; takes nothing. */
export async function probeUsage(client: ManagementClient): Promise<Outcome<Interface>> {
  const exported = await client.call({ method: 'GET', path: '/usage/export' });
  if (exported.ok) return { ok: true, value: 'snapshot' };
  if (exported.refusal.kind !== 'no-such-call') return exported;
  const queue = await client.call({ method: 'GET', path: '/usage-queue?count=0' });
  if (!queue.ok && queue.refusal.kind === 'no-such-call') return { ok: true, value: 'resp-queue' };
  if (!queue.ok && queue.refusal.kind !== 'rejected') return queue;
  return { ok: true, value: (await speaksResp(client)) ? 'resp-queue' : 'http-queue' };
}

/** It knows no PING, and says so to those who have the key. */
async function speaksResp(client: ManagementClient): Promise<boolean> {
  const answer = await callResp(client, 'PING');
  return answer.ok || answer.refusal.kind === 'no-such-call';
}

export function exportUsage(client: ManagementClient): Promise<Outcome<unknown>> {
  return client.call({ method: 'GET', path: '/usage/export' });
}

/** Merges into what is there; safe at any time. Returns how many were added and how many were there. */
export async function importUsage(client: ManagementClient, snapshot: unknown): Promise<Outcome<{ added: number; skipped: number }>> {
  const outcome = await client.call({ method: 'POST', path: '/usage/import', body: snapshot });
  if (!outcome.ok) return outcome;
  const reading = IMPORTED.safeParse(outcome.value);
  return reading.success
    ? { ok: true, value: reading.data }
    : { ok: false, refusal: { kind: 'failed', status: 200, reason: 'an answer of another shape' } };
}

/**
 * Takes up to so many records out of the queue, as text. They exist nowhere else then. Over HTTP they leave the queue when the key was checked, 60 ms after
 * the request: who dies in between loses them.
 */
export async function popOverHttp(client: ManagementClient, count: number): Promise<Outcome<readonly string[]>> {
  const outcome = await client.call({ method: 'GET', path: `/usage-queue?count=${String(count)}` });
  if (!outcome.ok) return outcome;
  return { ok: true, value: Array.isArray(outcome.value) ? outcome.value.map((record) => JSON.stringify(record)) : [] };
}

/** The same. The key is checked before anything is asked for. */
export async function popOverResp(client: ManagementClient, count: number): Promise<Outcome<readonly string[]>> {
  const outcome = await callResp(client, 'LPOP', 'usage', String(count));
  if (!outcome.ok) return outcome;
  return {
    ok: true,
    value: Array.isArray(outcome.value) ? outcome.value.filter((record): record is string => typeof record === 'string') : [],
  };
}

/** Whether usage is recorded at all. */
export async function isRecorded(client: ManagementClient): Promise<Outcome<boolean>> {
  const outcome = await client.call({ method: 'GET', path: '/usage-statistics-enabled' });
  if (!outcome.ok) return outcome;
  return { ok: true, value: (outcome.value as { 'usage-statistics-enabled'?: unknown } | null)?.['usage-statistics-enabled'] === true };
}

export function turnOn(client: ManagementClient): Promise<Outcome<unknown>> {
  return client.call({ method: 'PUT', path: '/usage-statistics-enabled', body: { value: true } });
}

/** How many attempts the credentials counted since CLIProxyAPI started; `undefined` where it does not count. */
export async function countAttempts(client: ManagementClient): Promise<Outcome<number | undefined>> {
  const outcome = await client.call({ method: 'GET', path: '/auth-files' });
  if (!outcome.ok) return outcome;
  const files = (outcome.value as { files?: { success?: unknown; failed?: unknown }[] | null } | null)?.files ?? [];
  const counts = files.flatMap(({ success, failed }) => [success, failed]).filter((count): count is number => typeof count === 'number');
  return { ok: true, value: counts.length === 0 ? undefined : counts.reduce((sum, count) => sum + count, 0) };
}
