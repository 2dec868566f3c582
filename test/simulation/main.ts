import { parseArgs } from 'node:util';
import { play } from './play.js';
import { SCENARIOS } from './scenarios.js';

/** A schedule that waits for what never comes would end the process without a word. */
process.exitCode = 1;

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '100' },
    first: { type: 'string', default: '1' },
    scenario: { type: 'string' },
    trace: { type: 'boolean', default: false },
    'until-failure': { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

if (values.help) {
  process.stdout.write(
    'npm run simulate -- --seeds N [--first M] [--trace] [--until-failure] [--mutation RULE]\nnpm run simulate -- --scenario NAME|all [--mutation RULE]\n\nPlays N random schedules, from seed M on, or those that have a name. A seed replays exactly; with --trace it prints what happens.\nWith --mutation it plays without one of the rules in test/simulation/mutations.json.\n',
  );
  process.exit(0);
}

if (values.scenario !== undefined) {
  const wanted = SCENARIOS.filter(({ name }) => values.scenario === 'all' || name === values.scenario);
  if (wanted.length === 0) throw new Error(`There is no scenario "${values.scenario}".`);
  let broken = 0;
  for (const { name, run } of wanted) {
    const outcome = await run().then(
      () => 'ok',
      (error: unknown) => `failed: ${error instanceof Error ? error.message : String(error)}`,
    );
    if (outcome !== 'ok') broken += 1;
    process.stdout.write(`${name}: ${outcome}\n`);
  }
  process.exit(broken === 0 ? 0 : 1);
}

const started = performance.now();
const [first, seeds] = [Number(values.first), Number(values.seeds)];
let failed = 0;
let rotations = 0;
const causes = new Map<string, number>();
const events = new Map<string, number>();
for (let seed = first; seed < first + seeds; seed += 1) {
  const trace = values.trace ? { trace: (line: string) => process.stdout.write(`${line}\n`) } : {};
  const outcome = await play(seed, trace);
  rotations += outcome.rotations;
  for (const [cause, count] of outcome.causes) causes.set(cause, (causes.get(cause) ?? 0) + count);
  for (const [event, count] of outcome.events) events.set(event, (events.get(event) ?? 0) + count);
  if (outcome.failures.length === 0) continue;
  failed += 1;
  process.stdout.write(
    `seed ${String(seed)} failed:\n${outcome.failures.map(({ at, what }) => `  at ${(at / 1000).toFixed(3)} s: ${what}\n`).join('')}`,
  );
  if (values['until-failure']) break;
}
const seconds = (performance.now() - started) / 1000;
process.stdout.write(
  `${String(seeds)} schedules, ${String(failed)} failed, ${String(rotations)} refreshes, ${(seeds / seconds).toFixed(1)} schedules/s\n` +
    `tokens presented twice, by cause: ${[...causes].map(([cause, count]) => `${cause} ${String(count)}`).join(', ') || 'none'}\n` +
    `events: ${[...events].map(([event, count]) => `${event} ${String(count)}`).join(', ')}\n`,
);
process.exit(failed === 0 ? 0 : 1);
