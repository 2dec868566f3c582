import { z } from 'zod';

/** The channel on which CLIProxyAPI tells of each failed request, from 7.1.44. */
export const ERRORS_CHANNEL = 'errors';

const FAILURE = z.object({
  auth_id: z.string(),
  status_code: z.number(),
});

/** A request that failed by a credential. */
export interface FailedRequest {
  readonly path: string;
  readonly status: number;
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
  const { auth_id: path, status_code: status } = reading.data;
  return { path, status };
}
