import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { Liveness } from '@tokenmirror/core';

const TIMEOUT_MS = 3000;

export interface ProbeAnswer {
  readonly status: number;
  readonly version: string | undefined;
}

/** What a connection fails with where no process could have answered. */
const NOTHING_THERE: ReadonlySet<string> = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EAI_AGAIN', 'EHOSTUNREACH', 'ENETUNREACH']);

/** Whether CLIProxyAPI lives, as a look at it from outside tells. */
export async function liveness(base: URL): Promise<Liveness> {
  const outcome = await send(base, '/');
  if (typeof outcome === 'object') return 'alive';
  if (NOTHING_THERE.has(outcome)) return 'refused';
  return /CERT|SELF_SIGNED|UNABLE_TO_VERIFY|ERR_TLS/.test(outcome) ? 'alive' : 'silent';
}

/** One GET to CLIProxyAPI, with a client key or none; `undefined` when nothing answers. On this machine a self-signed certificate will do. */
export async function probe(base: URL, path: string, clientKey?: string): Promise<ProbeAnswer | undefined> {
  const outcome = await send(base, path, clientKey);
  return typeof outcome === 'object' ? outcome : undefined;
}

/** The answer, or the code of what went wrong. */
function send(base: URL, path: string, clientKey?: string): Promise<ProbeAnswer | string> {
  return new Promise((resolve) => {
    const request = base.protocol === 'https:' ? httpsRequest : httpRequest;
    const headers = clientKey === undefined ? {} : { authorization: `Bearer ${clientKey}` };
    const sent = request(
      new URL(path, base),
      { headers, timeout: TIMEOUT_MS, rejectUnauthorized: !isLocal(base), agent: false },
      (response) => {
        const version = response.headers['x-cpa-version'];
        response.resume();
        response.on('error', () => undefined);
        resolve({ status: response.statusCode ?? 0, version: typeof version === 'string' ? version : undefined });
      },
    );
    sent.on('timeout', () => sent.destroy());
    sent.on('error', ({ code = 'silent' }: NodeJS.ErrnoException) => {
      resolve(code);
    });
    sent.end();
  });
}

/** On this machine a self-signed certificate will do. */
export function isLocal({ hostname }: URL): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || hostname.startsWith('127.');
}
