/**
 * Why CLIProxyAPI's management API did not do what it was asked.
 *
 * - `wrong-key`: it refused the management key. Nothing is asked again until the key, the address or the secret in the config changes: five such answers ban the address.
 * - `banned`: the address is banned, the right key included, until `until` (ms since the epoch).
 * - `not-local`: it takes no management from other machines.
 * - `off`: it has no management secret, so there is no management API.
 * - `no-such-call`: this version does not have the call.
 * - `not-found`: the thing that was named is not there.
 * - `rejected`: it did not like what was sent.
 * - `failed`: something went wrong inside it; what was asked may have been done.
 * - `unreachable`: no answer; what was asked may have been done.
 */
export type Refusal =
  | { readonly kind: 'wrong-key' | 'not-local' | 'off' | 'no-such-call' | 'not-found' }
  | { readonly kind: 'banned'; readonly until: number }
  | { readonly kind: 'rejected' | 'failed'; readonly status: number; readonly reason: string }
  | { readonly kind: 'unreachable'; readonly reason: string };

/** What a call brought. */
export type Outcome<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly refusal: Refusal };

/** A refusal in words for an operator, and what they can do. */
export function explain(refusal: Refusal): { readonly reason: string; readonly remedy: string } {
  switch (refusal.kind) {
    case 'wrong-key':
      return {
        reason: 'CLIProxyAPI refused the management key',
        remedy:
          'Set the key whose hash stands in remote-management.secret-key. Nothing is tried again before it changes: five failures ban this address.',
      };
    case 'banned':
      return {
        reason: `CLIProxyAPI banned this address until ${new Date(refusal.until).toISOString()}`,
        remedy: 'Somebody used a wrong management key five times. It is waited out; restarting CLIProxyAPI ends it at once.',
      };
    case 'not-local':
      return {
        reason: 'CLIProxyAPI takes no management from other machines',
        remedy: 'Run Tokenmirror beside it, or set remote-management.allow-remote.',
      };
    case 'off':
      return { reason: 'CLIProxyAPI has no management secret', remedy: 'Set remote-management.secret-key in its config.' };
    case 'no-such-call':
      return { reason: 'this version of CLIProxyAPI does not have that call', remedy: 'Update CLIProxyAPI.' };
    case 'not-found':
      return { reason: 'CLIProxyAPI does not have what was named', remedy: 'Look at what it lists.' };
    case 'rejected':
      return { reason: `CLIProxyAPI did not accept what was sent (${refusal.reason})`, remedy: 'Please report this.' };
    case 'failed':
      return { reason: `CLIProxyAPI failed (${refusal.reason})`, remedy: "Look at CLIProxyAPI's log." };
    case 'unreachable':
      return { reason: `CLIProxyAPI does not answer (${refusal.reason})`, remedy: 'Check that it runs, and where it listens.' };
  }
}
