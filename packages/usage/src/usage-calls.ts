import { z } from 'zod';
import type { ManagementClient, Outcome } from '@tokenmirror/cliproxy-client';

/**
 * How a CLIProxyAPI tells of usage.
 *
 * - `snapshot`: it keeps statistics and exports them (6.6.56 to 6.9.49).
 * - `http-queue`: it hands records out once, over HTTP (from 6.10.8).
 * - `resp-queue`: the same, over RESP only (6.10.0 to 6.10.7).
 */
export type Interface = 'snapshot' | 'http-queue' | 'resp-queue';

const IMPORTED = z.object({ added: z.number(), skipped: z.number() });

/** Looks what there is; takes nothing. */
export async function probeUsage(client: ManagementClient): Promise<Outcome<Interface>> {
  const exported = await client.call({ method: 'GET', path: '/usage/export' });
  if (exported.ok) return { ok: true, value: 'snapshot' };
  if (exported.refusal.kind !== 'no-such-call') return exported;
  const queue = await client.call({ method: 'GET', path: '/usage-queue?count=0' });
  if (!queue.ok && queue.refusal.kind === 'rejected') return { ok: true, value: 'http-queue' };
  if (!queue.ok && queue.refusal.kind === 'no-such-call') return { ok: true, value: 'resp-queue' };
  return queue.ok ? { ok: true, value: 'http-queue' } : queue;
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

/** Takes up to so many records out of the queue, as text. They exist nowhere else then. */
export async function popUsage(client: ManagementClient, count: number): Promise<Outcome<readonly string[]>> {
  const outcome = await client.call({ method: 'GET', path: `/usage-queue?count=${String(count)}` });
  if (!outcome.ok) return outcome;
  return { ok: true, value: Array.isArray(outcome.value) ? outcome.value.map((record) => JSON.stringify(record)) : [] };
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
