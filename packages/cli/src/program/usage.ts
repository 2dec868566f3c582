import { type Command, Option } from 'commander';
import { GROUPS } from '@tokenmirror/service';
import { withOptions } from '../context.js';
import { IRRELEVANT, type Declare } from './declare.js';

/** Usage. */
export function declareUsage({ add, within, handle, handleNamed }: Declare): void {
  const usage = add('usage', 'What was used, by whom, of which model.');
  const since = (command: Command, fallback = '24h'): Command =>
    command.option('--since <since>', '24h, 7d, any duration, or an instant', fallback);
  handle(
    withOptions(
      since(within(usage, 'top', 'Who used most.'))
        .addOption(new Option('--by <group>', 'by what').choices(GROUPS).default('key'))
        .option('--limit <number>', 'how many lines', '20'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/usage.js')).top,
  );
  handleNamed(
    withOptions(since(within(usage, 'key', 'What one key used.').argument('<key>', 'its id, or its mask')), IRRELEVANT),
    async () => (await import('../commands/usage.js')).key,
  );
  handleNamed(
    withOptions(since(within(usage, 'account', 'What the keys of an owner used.').argument('<email>')), IRRELEVANT),
    async () => (await import('../commands/usage.js')).account,
  );
  handle(
    withOptions(
      since(within(usage, 'timeline', 'Usage over time.').option('--key <key>', 'of one key: its id, or its mask')).addOption(
        new Option('--by <period>', 'hour or day').choices(['hour', 'day']).default('hour'),
      ),
      IRRELEVANT,
    ),
    async () => (await import('../commands/usage.js')).timeline,
  );
  handle(
    withOptions(
      since(
        within(usage, 'export', 'Every request, masked; v1, the export of CLIProxyAPI up to 6.9, has names in clear where they were kept.'),
        'never',
      )
        .addOption(new Option('--format <format>', 'how').choices(['jsonl', 'csv', 'v1']).default('jsonl'))
        .option('--file <path>', 'into a file, mode 0600'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/usage.js')).exportUsage,
  );
  handleNamed(
    withOptions(
      within(
        usage,
        'import',
        'Take over an export of a ledger (jsonl, csv) or of CLIProxyAPI, records of its queue, or the database of cliproxy-access-manager.',
      )
        .argument('<file>')
        .option('--origin <name>', 'which CLIProxyAPI they are of, where the file does not tell', 'imported'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/usage.js')).importUsage,
  );
  handle(
    withOptions(within(usage, 'backup', 'Write the sums by day into the stores of usage-backup now.'), IRRELEVANT),
    async () => (await import('../commands/usage.js')).backup,
  );
  handle(
    withOptions(
      within(usage, 'restore', 'Take the sums of each day of which the backup knows more than the ledger.').requiredOption(
        '--from <store>',
        'its name or URL',
      ),
      IRRELEVANT,
    ),
    async () => (await import('../commands/usage.js')).restore,
  );
  handle(
    withOptions(within(usage, 'status', 'How usage is collected, and what is missing. Exits with 1 when something is.'), IRRELEVANT),
    async () => (await import('../commands/usage.js')).status,
  );
}
