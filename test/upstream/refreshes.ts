import { rmSync, writeFileSync } from 'node:fs';
import { inMs, mustBe, PAST, type Clause, type World } from './world.js';

const NAME = 'claude-a.json';
const HOUR_MS = 3_600_000;

/** A refresh that takes a while and is under way now. */
async function slowRefresh(world: World, ms: number): Promise<Record<string, unknown>> {
  await world.cpa.start();
  world.provider.trouble.tokenDelayMs = ms;
  const fields = world.claude({ expired: PAST });
  await world.put(NAME, fields);
  await world.soon('the refresh began', () => world.provider.counts.tokenCalls === 1);
  return fields;
}

/** A refresh has failed for good, and the credential gets a file with which it could succeed. */
async function newFileAfterFailure(world: World): Promise<void> {
  await world.cpa.start();
  await world.put(NAME, world.claude({ expired: PAST, refresh_token: 'sk-ant-ort01-unknown' }));
  await world.soon('it was tried', () => world.provider.counts.tokenCalls > 0);
  await world.stays('let it fail', () => true, 8000);
  await world.put(NAME, world.claude({ expired: PAST }));
}

const hasNewGrant = (world: World, { access_token }: Record<string, unknown>): boolean => {
  const now = world.cpa.credential(NAME)?.['access_token'];
  return now !== undefined && now !== access_token;
};

export const REFRESHES: readonly Clause[] = [
  {
    proves: 'refreshes-when-expired',
    title: 'a file with a refresh token and an expiry in the past is refreshed at once',
    run: async (world) => {
      await world.cpa.start();
      for (const service of ['claude', 'codex', 'claude', 'codex'] as const) {
        const name = `${service}-${String(world.provider.counts.rotations)}.json`;
        const fields = world[service]({ expired: PAST });
        await world.put(name, fields);
        await world.soon(
          'it has a new grant',
          () => (world.cpa.credential(name)?.['access_token'] ?? fields['access_token']) !== fields['access_token'],
          1000,
        );
        mustBe('it expires in the future', Date.parse(String((await world.credential(name))['expired'])) > Date.now());
      }
    },
  },
  {
    proves: 'refreshes-within-lead',
    title: 'a credential within the lead of its provider is refreshed, one that is not is left alone',
    run: async (world) => {
      await world.put('claude-far.json', world.claude({ expired: inMs(6 * HOUR_MS) }));
      await world.put('claude-near.json', world.claude({ expired: inMs(HOUR_MS) }));
      await world.put('codex-near.json', world.codex({ expired: inMs(48 * HOUR_MS) }));
      await world.cpa.start();
      await world.soon('two were refreshed', () => world.provider.counts.rotations === 2, 15_000);
      await world.stays('the third is not', () => world.provider.counts.rotations === 2, 6000);
    },
  },
  {
    proves: 'serves-without-refresh-token',
    title: 'a credential without a refresh token is served and never refreshed',
    run: async (world) => {
      await world.put(NAME, world.claude({ expired: inMs(HOUR_MS), refresh_token: undefined }));
      await world.cpa.start();
      await world.stays('it serves', async () => (await world.status()) === 200, 6500);
      mustBe('nobody asked for a token', world.provider.counts.tokenCalls === 0);
    },
  },
  {
    proves: 'sealed-pause',
    title: 'a credential that gets its refresh token within its lead is refreshed up to half a minute later',
    slow: true,
    run: async (world) => {
      const fields = world.claude({ expired: inMs(HOUR_MS) });
      await world.put(NAME, { ...fields, refresh_token: undefined });
      await world.cpa.start();
      await world.stays('it was looked at', () => true, 7000);
      await world.put(NAME, { ...fields, expired: PAST });
      await world.stays('it is not refreshed at once', () => world.provider.counts.tokenCalls === 0, 5000);
      await world.soon('it is refreshed', () => world.provider.counts.rotations === 1, 40_000);
    },
  },
  {
    proves: 'pauses-after-failure',
    title: 'after a failed refresh the credential is left alone, new files or not',
    run: async (world) => {
      await newFileAfterFailure(world);
      await world.stays('it is left alone', () => world.provider.counts.rotations === 0, 6000);
    },
  },
  {
    proves: 'pauses-after-failure',
    title: 'five minutes after a failed refresh the credential is refreshed again',
    slow: true,
    run: async (world) => {
      await newFileAfterFailure(world);
      await world.soon('it is refreshed', () => world.provider.counts.rotations === 1, 330_000);
    },
  },
  {
    proves: 'retries-5xx',
    title: 'a refresh is tried again when the provider is in trouble',
    run: async (world) => {
      await world.cpa.start();
      world.provider.trouble.tokenErrors = { status: 503, times: 1 };
      await world.put(NAME, world.claude({ expired: PAST }));
      await world.soon('it succeeds', () => world.provider.counts.rotations === 1, 20_000);
    },
  },
  {
    proves: 'used-token-is-final',
    title: 'a used refresh token of Codex is presented once',
    run: async (world) => {
      await world.cpa.start();
      const fields = world.codex({ expired: PAST });
      await world.put('codex-a.json', fields);
      await world.soon('it was used', () => world.provider.counts.rotations === 1);
      await world.put('codex-b.json', { ...fields, email: 'other@example.com' });
      await world.soon('it was presented again', () => world.provider.counts.tokenCalls === 2);
      await world.stays('and not a third time', () => world.provider.counts.tokenCalls === 2, 6000);
    },
  },
  {
    proves: 'disabled-refresh',
    title: '7.2 refreshes disabled credentials, 6.9 does not',
    run: async (world) => {
      await world.put(NAME, world.claude({ disabled: true, expired: inMs(HOUR_MS) }));
      await world.cpa.start();
      if (world.flavour === '7.2') await world.soon('it is refreshed', () => world.provider.counts.rotations === 1, 15_000);
      else await world.stays('it is not refreshed', () => world.provider.counts.tokenCalls === 0, 7000);
    },
  },
  {
    proves: 'suspends-dead-token',
    title: 'a dead access token answers 401 once, then 503',
    run: async (world) => {
      const fields = world.claude({ refresh_token: undefined });
      world.provider.kill(String(fields['access_token']));
      await world.put(NAME, fields);
      await world.startLoaded();
      mustBe('the first answer is 401', (await world.status()) === 401);
      mustBe('the second is 503', (await world.status()) === 503);
    },
  },
  {
    proves: 'changed-value-revives',
    title: 'any changed value in the file ends the suspension, the same content does not',
    run: async (world) => {
      const fields = world.claude({ refresh_token: undefined });
      world.provider.kill(String(fields['access_token']));
      await world.put(NAME, fields);
      await world.startLoaded();
      await world.status();
      await world.put(NAME, fields);
      await world.stays('the same content changes nothing', async () => (await world.status()) === 503, 500);
      await world.cpa.manage('POST', `/auth-files?name=${NAME}`, fields);
      await world.stays('nor does an upload of it', async () => (await world.status()) === 503, 500);
      writeFileSync(world.path(NAME), `${world.text(NAME)}  \n`);
      await world.stays('nor does white space', async () => (await world.status()) === 503, 500);
      await world.put(NAME, { ...fields, note: 'changed' });
      await world.soon('it is tried again', async () => (await world.status()) === 401);
    },
  },
  {
    proves: 'refresh-on-401',
    title: '7.2 refreshes and tries again when its access token is dead, 6.9 does not',
    run: async (world) => {
      const fields = world.claude();
      world.provider.kill(String(fields['access_token']));
      await world.put(NAME, fields);
      await world.startLoaded();
      const status = await world.status();
      if (world.flavour === '7.2')
        mustBe('the client gets an answer from a new grant', status === 200 && world.provider.counts.rotations === 1);
      else mustBe('the client gets the 401', status === 401 && world.provider.counts.tokenCalls === 0);
    },
  },
  {
    proves: 'expired-beats-suspension',
    title: 'a suspended credential is refreshed when its file comes with an expiry in the past',
    flavours: ['6.9'],
    run: async (world) => {
      const fields = world.claude();
      world.provider.kill(String(fields['access_token']));
      await world.put(NAME, fields);
      await world.startLoaded();
      mustBe('it is dead', (await world.status()) === 401);
      mustBe('and suspended', (await world.status()) === 503);
      await world.put(NAME, { ...fields, expired: PAST });
      await world.soon('it is refreshed', () => hasNewGrant(world, fields), 2000);
      await world.soon('it serves', async () => (await world.status()) === 200);
    },
  },
  {
    proves: 'refresh-keeps-old-settings',
    title: 'a setting that was made during a refresh is undone by it',
    run: async (world) => {
      const fields = await slowRefresh(world, 1000);
      await world.put(NAME, { ...fields, note: 'made during the refresh', proxy_url: 'http://127.0.0.1:1', disabled: true });
      await world.soon('the new grant is there', () => hasNewGrant(world, fields));
      const now = await world.credential(NAME);
      mustBe('they are gone', now['note'] === undefined && now['proxy_url'] === undefined && now['disabled'] === false);
    },
  },
  {
    proves: 'refresh-outlives-removal',
    title: 'a refresh token that was removed during a refresh comes back as the new one',
    run: async (world) => {
      const fields = await slowRefresh(world, 1000);
      await world.put(NAME, { ...fields, refresh_token: undefined });
      await world.soon('the new grant is there', () => hasNewGrant(world, fields));
      mustBe('with its refresh token', String((await world.credential(NAME))['refresh_token']).startsWith('sk-ant-ort01-'));
    },
  },
  {
    proves: 'refresh-outlives-deletion',
    title: 'a file that was deleted during a refresh comes back with the new grant',
    flavours: ['6.9'],
    run: async (world) => {
      const fields = await slowRefresh(world, 2500);
      rmSync(world.path(NAME));
      await world.soon('the file is back', () => hasNewGrant(world, fields), 8000);
    },
  },
];
