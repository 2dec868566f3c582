import { readFileSync } from 'node:fs';
import { messageOf, TokenmirrorError } from '@tokenmirror/core';
import type { KeyRegistry } from '@tokenmirror/key-expiry';
import type { Ledger, Questions, UsageTables } from '@tokenmirror/usage';
import type { Locations } from '@tokenmirror/workspace';
import type { Settings } from '../options/settings.js';
import { systemClock } from '../system-clock.js';
import { databasePlace } from './open-registry.js';

/** The ledger of usage, and what answers questions from it. */
export interface OpenLedger {
  readonly ledger: Ledger;
  readonly questions: Questions;
}

/** Opens the ledger beside the registry, in the same database. @throws TokenmirrorError STORE_UNREACHABLE, STORE_DENIED, OPTION_INVALID */
export async function openLedger(settings: Settings, locations: Locations, registry: KeyRegistry): Promise<OpenLedger> {
  const [{ Database }, usage] = await Promise.all([import('@tokenmirror/database'), import('@tokenmirror/usage')]);
  const { 'usage-prices': file, 'usage-keep-events': keepEventsMs, 'usage-keep-hours': keepHoursMs } = settings;
  const prices = file === undefined ? undefined : usage.readPrices(textOf(file), file);
  const database = await Database.open<UsageTables>(await databasePlace(settings, locations), usage.USAGE_SCHEMA);
  const ledger = new usage.Ledger({ database, registry, clock: systemClock, keepEventsMs, keepHoursMs });
  return { ledger, questions: new usage.Questions({ ledger, registry, clock: systemClock, prices }) };
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new TokenmirrorError(
      'OPTION_INVALID',
      `usage-prices ${file} cannot be read (${messageOf(cause)})`,
      'Check its path and its rights.',
      {
        cause,
      },
    );
  }
}
