import { existsSync, rmSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { mustBe, type Clause } from './world.js';

const NAME = 'claude-a.json';
const CLIENTS = 16;

/** What the program may add to whatever it saves. */
function withoutOwnFields(fields: Record<string, unknown>): string {
  const entries = Object.entries(fields).filter(([name]) => name !== 'disabled' && name !== 'claude_device_ids');
  return JSON.stringify(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
}

export const ECHOES: readonly Clause[] = [
  {
    proves: 'saves-after-requests',
    title: 'under load a replaced credential gets its previous content back now and then, and never another one',
    run: async (world) => {
      let before: Record<string, unknown> = world.claude();
      /** On a busy machine an echo of it can come after the look. */
      let earlier = before;
      await world.put(NAME, before);
      await world.cpa.start();
      await world.soon('it serves', async () => (await world.status()) === 200);
      let echoes = 0;
      await world.underLoad(CLIENTS, async () => {
        for (let n = 0; n < 300 && echoes === 0; n += 1) {
          const after = { ...before, note: `written as number ${String(n)}` };
          await world.put(NAME, after);
          await delay(40);
          const found = withoutOwnFields(await world.credential(NAME));
          mustBe(
            'it is the new content or the previous one',
            [earlier, before, after].some((fields) => withoutOwnFields(fields) === found),
          );
          if (found !== withoutOwnFields(after)) echoes += 1;
          [earlier, before] = [before, after];
        }
      });
      mustBe('there was an echo', echoes > 0);
    },
  },
  {
    proves: 'deleted-returns-disabled-does-not',
    title: 'a request that ends after a deletion brings the credential back, unless it was disabled before',
    run: async (world) => {
      const fields = world.claude();
      await world.put(NAME, fields);
      await world.cpa.start();
      await world.soon('it serves', async () => (await world.status()) === 200);
      const hasReturned = async (): Promise<boolean> => {
        for (let n = 0; n < 12; n += 1) {
          await world.underLoad(CLIENTS, async () => {
            rmSync(world.path(NAME));
            await delay(2000);
          });
          if (existsSync(world.path(NAME))) return true;
          await world.put(NAME, fields);
          await world.soon('it serves', async () => (await world.status()) === 200);
        }
        return false;
      };
      mustBe('it came back', await hasReturned());

      world.provider.trouble.messageDelayMs = 1500;
      const underWay = Array.from({ length: CLIENTS }, () => world.cpa.message('claude'));
      await delay(300);
      await world.put(NAME, { ...(await world.credential(NAME)), disabled: true });
      await delay(600);
      mustBe('it stayed disabled', (await world.credential(NAME))['disabled'] === true);
      rmSync(world.path(NAME));
      await Promise.all(underWay);
      await world.stays('it is gone', () => !existsSync(world.path(NAME)), 2000);
    },
  },
];
