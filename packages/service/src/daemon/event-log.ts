import { exhaustive, shownName, type CustodyEvent, type EngineEvent, type Log, type LogDetails, type MirrorEvent } from '@tokenmirror/core';
import type { ReplicaEvent } from '../replica.js';

/** Writes what happens at a replica into the log, one line an event. */
export function logEvent(log: Log, event: ReplicaEvent): void {
  if (event.type === 'peer') logEngineEvent(withDetails(log, { peer: event.peer }), event.event);
  else if (event.type === 'peer-trouble') log.error('peer-trouble', { peer: event.peer, reason: event.reason, remedy: event.remedy });
  else if ('mirror' in event) logMirrorEvent(withDetails(log, { mirror: event.mirror }), event);
  else logEngineEvent(log, event);
}

function withDetails(log: Log, details: LogDetails): Log {
  const on = (level: keyof Log) => (event: string, more?: LogDetails) => {
    log[level](event, { ...details, ...more });
  };
  return { debug: on('debug'), info: on('info'), warn: on('warn'), error: on('error') };
}

function logMirrorEvent(log: Log, event: MirrorEvent): void {
  switch (event.type) {
    case 'mirror-open':
    case 'mirror-caught-up':
      log.debug(event.type);
      return;
    case 'mirror-trouble':
      log.error('mirror-trouble', { reason: event.reason, remedy: event.remedy });
      return;
    case 'mirror-back':
      log.info('mirror-back', { afterMs: event.afterMs });
      return;
    case 'mirror-frozen':
      log.error('mirror-frozen', {
        documents: event.documents,
        remedy: 'So many deletions at once look like an accident; the mirror keeps them. Restore them, or run `tokenmirror sync --force`.',
      });
      return;
    case 'mirror-ahead':
      log.warn('mirror-ahead', {
        document: shownName(event.key),
        remedy:
          'The mirror holds a newer grant than the authority. `tokenmirror restore` brings it back; until then nothing is overwritten.',
      });
      return;
    case 'mirror-refused':
      log.warn('mirror-refused', { document: shownName(event.key), reason: event.reason });
      return;
    case 'recovered':
      log.warn('recovered', { document: shownName(event.key), reason: 'the authority had lost it without a deletion' });
      return;
    default:
      exhaustive(event);
  }
}

function logEngineEvent(log: Log, event: EngineEvent | CustodyEvent): void {
  switch (event.type) {
    case 'custody-mode': {
      const { mode } = event;
      log.info(
        'custody-mode',
        mode.mode === 'alone'
          ? { mode: 'alone', replica: mode.replica, handover: mode.handover }
          : { mode: 'shared', handover: mode.handover },
      );
      return;
    }
    case 'visit':
      log.info('visit', { document: shownName(event.key), phase: event.phase, because: event.because });
      return;
    case 'visit-ended':
      log[event.outcome === 'refreshed' || event.outcome === 'sealed' ? 'info' : 'warn']('visit-ended', {
        document: shownName(event.key),
        because: event.because,
        outcome: event.outcome,
        afterMs: event.afterMs,
      });
      return;
    case 'token-held':
      log.warn('token-held', {
        document: shownName(event.key),
        replica: event.replica,
        reason: 'another replica may know its refresh token; see `tokenmirror custody status`',
      });
      return;
    case 'token-spent':
      log.error('token-spent', {
        document: shownName(event.key),
        remedy:
          'The file is an old copy: its refresh token was used already. Use `tokenmirror restore`, or log in again; never copy old files back.',
      });
      return;
    case 'claim-taken-over':
      log.warn('claim-taken-over', { document: shownName(event.key), replica: event.replica });
      return;
    case 'access-token-died':
      log.warn('access-token-died', {
        document: shownName(event.key),
        healing: event.healing,
        ...(event.healing === 'too soon' ? { remedy: 'It died again soon after a refresh. Log in again if this goes on.' } : {}),
      });
      return;
    case 'overdue':
      log.error('overdue', { document: shownName(event.key), because: event.because, remedy: 'See `tokenmirror custody status`.' });
      return;
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
