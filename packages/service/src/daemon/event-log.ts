import { exhaustive, shownName, type EngineEvent, type Log } from '@tokenmirror/core';

/** Writes what the engine tells into the log, one line an event. */
export function logEvent(log: Log, event: EngineEvent): void {
  switch (event.type) {
    case 'acted':
      log[event.conflicts.length > 0 ? 'warn' : 'info'](event.action, {
        document: shownName(event.key),
        because: event.because,
        ...(event.conflicts.length > 0 ? { conflicts: event.conflicts, remedy: 'The value that lost is in the history.' } : {}),
      });
      return;
    case 'refused':
      log.warn('refused', {
        document: shownName(event.name),
        side: event.side,
        reason: event.reason,
        remedy: 'Mend or remove it; everything else goes on.',
      });
      return;
    case 'mended':
      log.info('mended', { document: shownName(event.name) });
      return;
    case 'login-due':
      log.warn('login-due', {
        document: shownName(event.key),
        remedy: 'The store went back to an older grant and nobody has the newest. Log in again.',
      });
      return;
    case 'deletions-frozen':
      log.error('deletions-frozen', {
        documents: event.keys.length,
        remedy:
          'So many deletions at once look like an accident. Put the files back, or stop the daemon and run `tokenmirror sync --force`.',
      });
      return;
    case 'outage':
      log.error('store-unreachable', { reason: event.reason, remedy: event.remedy });
      return;
    case 'healed':
      log.info('store-back', { afterMs: event.afterMs });
      return;
    case 'workspace-missing':
      log.error('workspace-missing', {
        remedy:
          'The auth directory is gone or cannot be read. Nothing is deleted anywhere; put it back and its files return from the store.',
      });
      return;
    case 'rehydrating':
      log.warn('rehydrating', {
        reason: 'the auth directory lost its marker, so what is missing in it was not deleted; it comes back from the store',
      });
      return;
    default:
      exhaustive(event);
  }
}
