import { TokenmirrorError } from '@tokenmirror/core';
import type { Settings } from '../options/settings.js';

export interface HealthReport {
  readonly status: 'starting' | 'ready' | 'degraded' | 'unreachable';
  readonly reasons: readonly { readonly reason: string; readonly remedy: string }[];
}

const TIMEOUT_MS = 5000;

/** Asks the daemon of this machine whether its workspace can be served from. @throws TokenmirrorError OPTION_INVALID */
export async function health({ 'http-listen': listen }: Settings): Promise<HealthReport> {
  if (listen === 'off')
    throw new TokenmirrorError('OPTION_INVALID', 'http-listen is off, so the daemon cannot be asked', 'Use `tokenmirror status` instead.');
  const host = listen.host === '::' || listen.host === '0.0.0.0' ? '127.0.0.1' : listen.host;
  const url = `http://${host.includes(':') ? `[${host}]` : host}:${String(listen.port)}/readyz`;
  try {
    const answer = await fetch(url, { signal: AbortSignal.timeout(TIMEOUT_MS) });
    return (await answer.json()) as HealthReport;
  } catch {
    return { status: 'unreachable', reasons: [{ reason: `no daemon answers at ${url}`, remedy: 'Start it with `tokenmirror run`.' }] };
  }
}
