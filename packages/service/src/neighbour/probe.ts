import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';

const TIMEOUT_MS = 3000;

export interface ProbeAnswer {
  readonly status: number;
  readonly version: string | undefined;
}

/** One GET to CLIProxyAPI, with a client key or none; `undefined` when nothing answers. On this machine a self-signed certificate will do. */
export function probe(base: URL, path: string, clientKey?: string): Promise<ProbeAnswer | undefined> {
  return new Promise((resolve) => {
    const send = base.protocol === 'https:' ? httpsRequest : httpRequest;
    const headers = clientKey === undefined ? {} : { authorization: `Bearer ${clientKey}` };
    const sent = send(
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
    sent.on('error', () => {
      resolve(undefined);
    });
    sent.end();
  });
}

function isLocal({ hostname }: URL): boolean {
  return hostname === 'localhost' || hostname === '[::1]' || hostname.startsWith('127.');
}
