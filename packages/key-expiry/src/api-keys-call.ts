import { z } from 'zod';
import type { ManagementClient, Outcome } from '@tokenmirror/cliproxy-client';

const PATH = '/api-keys';
const ANSWER = z.object({ 'api-keys': z.array(z.string()).nullish() });

/** `GET /api-keys`; a list that is `null` is empty. */
export async function readApiKeys(client: ManagementClient): Promise<Outcome<readonly string[]>> {
  const outcome = await client.call({ method: 'GET', path: PATH });
  if (!outcome.ok) return outcome;
  const reading = ANSWER.safeParse(outcome.value);
  if (reading.success) return { ok: true, value: reading.data['api-keys'] ?? [] };
  return { ok: false, refusal: { kind: 'failed', status: 200, reason: 'an answer of another shape' } };
}

/** Replaces the whole list. Never with an empty one: CLIProxyAPI without keys serves everybody. */
export function putApiKeys(client: ManagementClient, keys: readonly string[]): Promise<Outcome<unknown>> {
  if (keys.length === 0) throw new Error('an empty list of keys opens the proxy');
  return client.call({ method: 'PUT', path: PATH, body: keys });
}

/** Appends one key, and leaves the others alone. */
export function addApiKey(client: ManagementClient, key: string): Promise<Outcome<unknown>> {
  return client.call({ method: 'PATCH', path: PATH, body: { old: key, new: key } });
}

/** Removes one key. The caller knows of another that stays. */
export function removeApiKey(client: ManagementClient, key: string): Promise<Outcome<unknown>> {
  return client.call({ method: 'DELETE', path: `${PATH}?value=${encodeURIComponent(key)}` });
}
