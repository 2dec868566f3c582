import { type Command, Option } from 'commander';
import { FILTERS } from '@tokenmirror/service';
import { withOptions } from '../context.js';
import { IRRELEVANT, type Declare } from './declare.js';

function alsoThis(label: string, before: readonly string[] = []): readonly string[] {
  return [...before, label];
}

/** API keys. */
export function declareKeys({ add, within, handle, handleNamed }: Declare): void {
  const keys = add('keys', 'API keys of CLIProxyAPI with an owner, a term and a limit.');
  const ofKey = (name: string, description: string): Command => within(keys, name, description).argument('<key>', 'its id, or its mask');
  const about = (command: Command): Command =>
    command
      .option('--owner <email>', 'whose it is')
      .option('--note <text>', 'anything')
      .addOption(new Option('--label <label>', 'to find it by; may be given again').argParser(alsoThis))
      .option('--quota <quota>', '"1000 requests per day", "5M tokens/month"');
  handle(
    withOptions(
      about(within(keys, 'add', 'Register a key, and print it: it is made, and shown this once.'))
        .option('--term <term>', '24h, 7d, 2026-03-01, an RFC 3339 instant, or never', 'never')
        .option('--key-stdin', 'take the key from standard input instead'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/keys.js')).add,
  );
  handle(
    withOptions(
      within(keys, 'list', 'The keys, masked.')
        .addOption(new Option('--filter <filter>', 'which of them').choices(FILTERS).default('all'))
        .option('--owner <email>', 'those of one owner')
        .option('--label <label>', 'those with a label'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/keys.js')).list,
  );
  handleNamed(
    withOptions(ofKey('show', 'Everything about a key, with its history.'), IRRELEVANT),
    async () => (await import('../commands/keys.js')).show,
  );
  handleNamed(
    withOptions(
      ofKey('extend', 'Add to its running term, or set when it ends.').argument('<term>', '24h, 7d, 2026-03-01, never'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/keys.js')).extend,
  );
  handleNamed(
    withOptions(ofKey('disable', 'Do not let it in until it is enabled again.'), IRRELEVANT),
    async () => (await import('../commands/keys.js')).disable,
  );
  handleNamed(withOptions(ofKey('enable', 'Let it in again.'), IRRELEVANT), async () => (await import('../commands/keys.js')).enable);
  handleNamed(
    withOptions(about(ofKey('edit', 'Change what is known of it; --quota none takes the limit away.')), IRRELEVANT),
    async () => (await import('../commands/keys.js')).edit,
  );
  handleNamed(
    withOptions(
      ofKey('rotate', 'Make a successor with everything it has, and print it; the old one goes on for a while.').option(
        '--overlap <duration>',
        'for how long',
        '24h',
      ),
      IRRELEVANT,
    ),
    async () => (await import('../commands/keys.js')).rotate,
  );
  handleNamed(
    withOptions(ofKey('delete', 'Forget it. Asks first.').option('--yes', 'do not ask'), IRRELEVANT),
    async () => (await import('../commands/keys.js')).remove,
  );
  handle(
    withOptions(
      within(keys, 'adopt', 'Take over keys that CLIProxyAPI has and nobody registered.')
        .argument('[masks...]', 'only those with these masks')
        .option('--owner <email>', 'whose they are')
        .option('--term <term>', 'until when', 'never')
        .option('--note <text>', 'anything')
        .option('--dry-run', 'only tell which'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/keys.js')).adopt,
  );
  handleNamed(
    withOptions(
      within(keys, 'import', 'Register the keys of an export, or of the database of cliproxy-access-manager.').argument('<file>'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/keys.js')).importKeys,
  );
  handle(
    withOptions(
      within(keys, 'export', 'The keys as JSON, masked.')
        .option('--with-keys', 'in clear, so that they can be imported again')
        .option('--file <path>', 'into a file, mode 0600'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/keys.js')).exportKeys,
  );
  handle(
    withOptions(
      within(keys, 'audit', 'Who did what to which key, newest first.')
        .option('--key <key>', 'of one key')
        .option('--limit <number>', 'how many lines', '50'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/keys.js')).audit,
  );
  handle(
    withOptions(
      within(keys, 'sync', 'Bring the keys of every CLIProxyAPI up to date now.').option('--dry-run', 'only tell what would change'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/keys.js')).sync,
  );
}
