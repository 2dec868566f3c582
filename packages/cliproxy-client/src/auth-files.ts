import { z } from 'zod';
import type { ManagementClient } from './management-client.js';
import type { Outcome } from './refusal.js';

const AUTH_FILES = z.object({
  files: z
    .array(
      z.object({
        id: z.string().optional(),
        name: z.string(),
        disabled: z.boolean().optional(),
        unavailable: z.boolean().optional(),
        status_message: z.string().optional(),
        next_retry_after: z.string().optional(),
      }),
    )
    .nullish(),
});

/** A credential as CLIProxyAPI has it in memory. */
export interface LoadedFile {
  /** Its path below the auth directory, or in older versions its whole path. */
  readonly path: string;
  readonly isDisabled: boolean;
  /** Not used for a while, after a failed request. */
  readonly isSuspended: boolean;
  /** What the failed request said. */
  readonly message: string;
}

/** `GET /auth-files`. */
export async function readAuthFiles(client: ManagementClient): Promise<Outcome<readonly LoadedFile[]>> {
  const outcome = await client.call({ method: 'GET', path: '/auth-files' });
  if (!outcome.ok) return outcome;
  const reading = AUTH_FILES.safeParse(outcome.value);
  if (!reading.success) return { ok: false, refusal: { kind: 'failed', status: 200, reason: 'an answer of another shape' } };
  const files = (reading.data.files ?? []).map(({ id, name, disabled, unavailable, status_message: message }) => ({
    path: id ?? name,
    isDisabled: disabled === true,
    isSuspended: unavailable === true,
    message: message ?? '',
  }));
  return { ok: true, value: files };
}

/** True for what a provider says when it does not know an access token. */
export function saysDeadToken(message: string): boolean {
  return /\b401\b|unauthori[sz]ed|authentication_error|invalid.*(token|bearer|authentication)|token.*(expired|revoked|invalid)/i.test(
    message,
  );
}
