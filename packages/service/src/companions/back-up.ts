import { messageOf, type TokenStore } from '@tokenmirror/core';
import type { BackupOutcome, Ledger } from '@tokenmirror/usage';
import { systemClock } from '../system-clock.js';

/** Writes the sums of a ledger into a store, which is opened for it and made where it is new. Never fails. */
export async function backUpInto(place: () => Promise<TokenStore>, ledger: Ledger, name: string): Promise<BackupOutcome> {
  const { UsageBackup } = await import('@tokenmirror/usage');
  try {
    const store = await place();
    try {
      await store.open('create');
      return await new UsageBackup({ ledger, clock: systemClock, name }).write(store);
    } finally {
      await store.close();
    }
  } catch (error) {
    return { status: 'refused', reason: messageOf(error) };
  }
}

/** Why a backup was not written, or what it shows to be missing. */
export function problemOf(outcome: BackupOutcome): string | undefined {
  switch (outcome.status) {
    case 'written':
      return outcome.missing === 0
        ? undefined
        : `it knows of ${String(outcome.missing)} requests that the ledger lost: bring them back with \`tokenmirror usage restore\``;
    case 'refused':
      return outcome.reason;
  }
}

/** A store as it may be shown: a URL may hold a password. */
export function shownPlace(store: string): string {
  if (!URL.canParse(store)) return store;
  const { protocol, host, pathname } = new URL(store);
  return `${protocol}//${host}${pathname}`;
}
