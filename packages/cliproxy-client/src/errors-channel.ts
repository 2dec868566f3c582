import { z } from 'zod';

/** The channel on which CLIProxyAPI tells of each failed request, from 7.1.44. */
export const ERRORS_CHANNEL = 'errors';

const FAILURE = z.object({
  auth_id: z.string(),
  status_code: z.number(),
  auth_status: z.object({ unavailable: z.boolean().optional() }).nullish(),
});

/** A request that failed by a credential. */
export interface FailedRequest {
  readonly path: string;
  readonly status: number;
  /** The credential is not used for a while. */
  readonly isSuspended: boolean;
}

export function readFailure(text: string): FailedRequest | undefined {
  let found: unknown;
  try {
    found = JSON.parse(text);
  } catch {
    return undefined;
  }
  const reading = FAILURE.safeParse(found);
  if (!reading.success) return undefined;
  const { auth_id: path, status_code: status, auth_status: state } = reading.data;
  return { path, status, isSuspended: state?.unavailable === true };
}
