import { Command, Option } from 'commander';
import { FILTERS, GROUPS, VERSION } from '@tokenmirror/service';
import { withOptions } from './context.js';

type Handler = (command: Command) => Promise<number>;
type NamedHandler = (name: string, command: Command) => Promise<number>;

const EXAMPLES = `
Examples:
  tokenmirror run --auth-dir ~/.cli-proxy-api --store file:///backup/cliproxy
  PGSTORE_DSN=postgres://… tokenmirror run --workspace /data
  tokenmirror migrate --from file:///data --to postgres --dry-run
  tokenmirror history claude-me@example.com

Exit codes:
  0  done, all is well          4  the store is out of reach or refuses
  1  done, look at the output   5  data of another cluster or a newer version
  2  not understood             6  no such document, or it cannot be used
  3  the workspace is at fault  70 a defect of Tokenmirror

Options can also be set as TOKENMIRROR_<NAME>, in .env, or in tokenmirror.yaml.`;

function alsoThis(label: string, before: readonly string[] = []): readonly string[] {
  return [...before, label];
}

/** Commands load their code only when they are called, so that starting is fast. `done` is told what to exit with. */
export function createProgram(done: (exitCode: number) => void): Command {
  const program = new Command('tokenmirror')
    .description('Mirrors the credentials and settings of CLIProxyAPI into a store, live, in both directions.')
    .version(VERSION)
    .showHelpAfterError('See `tokenmirror --help`, or `tokenmirror <command> --help`.')
    .addHelpText('after', EXAMPLES)
    .exitOverride();

  const add = (name: string, description: string): Command =>
    program.command(name).description(description).exitOverride().showHelpAfterError(`See \`tokenmirror ${name} --help\`.`);
  const handle = (command: Command, load: () => Promise<Handler>): void => {
    command.action(async () => {
      done(await (await load())(command));
    });
  };
  const handleNamed = (command: Command, load: () => Promise<NamedHandler>): void => {
    command.action(async (name: string) => {
      done(await (await load())(name, command));
    });
  };

  handle(
    withOptions(add('run', 'Keep the workspace, its store, mirrors and peers in sync until stopped (the daemon).'), ['json']),
    async () => (await import('./commands/run.js')).run,
  );
  handle(withOptions(add('sync', 'One pass in both directions, then exit.')), async () => (await import('./commands/sync.js')).sync);
  handle(
    withOptions(add('status', 'What is where, and whether it is well.'), ['force', 'adopt']),
    async () => (await import('./commands/status.js')).status,
  );
  handle(
    withOptions(add('diff', 'What a pass would do; changes nothing. Exits with 1 when there is something.'), ['force', 'adopt']),
    async () => (await import('./commands/diff.js')).diff,
  );
  handle(
    withOptions(add('verify', 'Compare every place with the authority, document by document. Exits with 1 when they differ.'), [
      'force',
      'adopt',
    ]),
    async () => (await import('./commands/verify.js')).verify,
  );
  handle(
    withOptions(
      add('migrate', 'Copy every document of one store into another, and read each of them back.')
        .requiredOption(
          '--from <store>',
          'file:///directory, postgres://…, s3://…, git+https://…, a configured store (postgres, s3, git, filesystem), or workspace',
        )
        .requiredOption('--to <store>', 'the same; it is made when it is new')
        .option('--dry-run', 'only tell what would be copied'),
      ['store', 'force', 'adopt'],
    ),
    async () => (await import('./commands/migrate.js')).migrate,
  );
  handleNamed(
    withOptions(
      add('history', 'List the kept versions of a document, or show one (secrets masked).')
        .argument('<name>', 'for example claude-me@example.com, or config')
        .option('--show <version>', 'show this version, compared with the current one')
        .option('--from <store>', 'look into this mirror instead of the authority'),
      ['force', 'adopt'],
    ),
    async () => (await import('./commands/history.js')).history,
  );
  handleNamed(
    withOptions(
      add('restore', 'Bring an earlier version of a document back: its settings, or all of a deleted one.')
        .argument('<name>', 'for example claude-me@example.com, or config')
        .option('--to <version>', 'which one, from `tokenmirror history` (default: the newest)')
        .option('--from <store>', 'from this mirror: what it holds now, or with --to one of its versions')
        .option('--grant', 'the old tokens too, which are usually dead; asks first')
        .option('--yes', 'do not ask'),
      ['force', 'adopt'],
    ),
    async () => (await import('./commands/restore.js')).restore,
  );
  const custody = add('custody', 'Who may hold refresh tokens, and what to do when nobody may.');
  const within = (parent: Command, name: string, description: string): Command =>
    parent.command(name).description(description).exitOverride().showHelpAfterError(`See \`tokenmirror ${parent.name()} ${name} --help\`.`);
  handle(
    withOptions(within(custody, 'status', 'Alone or shared; and for each credential when it is due, and who holds its claim.'), [
      'force',
      'adopt',
    ]),
    async () => (await import('./commands/custody.js')).status,
  );
  handleNamed(
    withOptions(
      within(custody, 'refresh', 'Ask for a refresh before its time, for example because the access token died.').argument('<credential>'),
      ['force', 'adopt'],
    ),
    async () => (await import('./commands/custody.js')).refresh,
  );
  handle(
    withOptions(within(custody, 'share', 'Share again after an eject: every replica may refresh.'), ['force', 'adopt']),
    async () => (await import('./commands/custody.js')).share,
  );
  handleNamed(
    withOptions(
      within(custody, 'takeover', 'Take a refresh token from a replica that does not come back. Asks first.')
        .argument('<credential>')
        .option('--yes', 'do not ask'),
      ['force', 'adopt'],
    ),
    async () => (await import('./commands/custody.js')).takeover,
  );
  const replicas = add('replicas', 'The replicas of this store.');
  handle(
    withOptions(within(replicas, 'list', 'Every replica, when it was seen, and what it holds.'), ['force', 'adopt']),
    async () => (await import('./commands/custody.js')).list,
  );
  handleNamed(
    withOptions(
      within(replicas, 'dismiss', 'Forget a replica that is gone for good, and free what it held. Asks first.')
        .argument('<replica>')
        .option('--yes', 'do not ask'),
      ['force', 'adopt'],
    ),
    async () => (await import('./commands/custody.js')).dismiss,
  );
  handle(
    withOptions(
      add('eject', 'End sharing: one replica holds every refresh token, and its files are whole again. Asks first.')
        .option('--to <replica>', 'which one, from `tokenmirror replicas list` (default: the one of this workspace)')
        .option('--dry-run', 'only tell what would happen')
        .option('--yes', 'do not ask'),
      ['force', 'adopt'],
    ),
    async () => (await import('./commands/custody.js')).eject,
  );
  const keys = add('keys', 'API keys of CLIProxyAPI with an owner, a term and a limit.');
  const keyOptions = ['force', 'adopt'] as const;
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
      keyOptions,
    ),
    async () => (await import('./commands/keys.js')).add,
  );
  handle(
    withOptions(
      within(keys, 'list', 'The keys, masked.')
        .addOption(new Option('--filter <filter>', 'which of them').choices(FILTERS).default('all'))
        .option('--owner <email>', 'those of one owner')
        .option('--label <label>', 'those with a label'),
      keyOptions,
    ),
    async () => (await import('./commands/keys.js')).list,
  );
  handleNamed(
    withOptions(ofKey('show', 'Everything about a key, with its history.'), keyOptions),
    async () => (await import('./commands/keys.js')).show,
  );
  handleNamed(
    withOptions(
      ofKey('extend', 'Add to its running term, or set when it ends.').argument('<term>', '24h, 7d, 2026-03-01, never'),
      keyOptions,
    ),
    async () => (await import('./commands/keys.js')).extend,
  );
  handleNamed(
    withOptions(ofKey('disable', 'Do not let it in until it is enabled again.'), keyOptions),
    async () => (await import('./commands/keys.js')).disable,
  );
  handleNamed(withOptions(ofKey('enable', 'Let it in again.'), keyOptions), async () => (await import('./commands/keys.js')).enable);
  handleNamed(
    withOptions(about(ofKey('edit', 'Change what is known of it; --quota none takes the limit away.')), keyOptions),
    async () => (await import('./commands/keys.js')).edit,
  );
  handleNamed(
    withOptions(
      ofKey('rotate', 'Make a successor with everything it has, and print it; the old one goes on for a while.').option(
        '--overlap <duration>',
        'for how long',
        '24h',
      ),
      keyOptions,
    ),
    async () => (await import('./commands/keys.js')).rotate,
  );
  handleNamed(
    withOptions(ofKey('delete', 'Forget it. Asks first.').option('--yes', 'do not ask'), keyOptions),
    async () => (await import('./commands/keys.js')).remove,
  );
  handle(
    withOptions(
      within(keys, 'adopt', 'Take over keys that CLIProxyAPI has and nobody registered.')
        .argument('[masks...]', 'only those with these masks')
        .option('--owner <email>', 'whose they are')
        .option('--term <term>', 'until when', 'never')
        .option('--note <text>', 'anything')
        .option('--dry-run', 'only tell which'),
      keyOptions,
    ),
    async () => (await import('./commands/keys.js')).adopt,
  );
  handleNamed(
    withOptions(
      within(keys, 'import', 'Register the keys of an export, or of the database of cliproxy-access-manager.').argument('<file>'),
      keyOptions,
    ),
    async () => (await import('./commands/keys.js')).importKeys,
  );
  handle(
    withOptions(
      within(keys, 'export', 'The keys as JSON, masked.')
        .option('--with-keys', 'in clear, so that they can be imported again')
        .option('--file <path>', 'into a file, mode 0600'),
      keyOptions,
    ),
    async () => (await import('./commands/keys.js')).exportKeys,
  );
  handle(
    withOptions(
      within(keys, 'audit', 'Who did what to which key, newest first.')
        .option('--key <key>', 'of one key')
        .option('--limit <number>', 'how many lines', '50'),
      keyOptions,
    ),
    async () => (await import('./commands/keys.js')).audit,
  );
  handle(
    withOptions(
      within(keys, 'sync', 'Bring the keys of every CLIProxyAPI up to date now.').option('--dry-run', 'only tell what would change'),
      keyOptions,
    ),
    async () => (await import('./commands/keys.js')).sync,
  );
  const usage = add('usage', 'What was used, by whom, of which model.');
  const since = (command: Command, fallback = '24h'): Command =>
    command.option('--since <since>', '24h, 7d, any duration, or an instant', fallback);
  handle(
    withOptions(
      since(within(usage, 'top', 'Who used most.'))
        .addOption(new Option('--by <group>', 'by what').choices(GROUPS).default('key'))
        .option('--limit <number>', 'how many lines', '20'),
      keyOptions,
    ),
    async () => (await import('./commands/usage.js')).top,
  );
  handleNamed(
    withOptions(since(within(usage, 'key', 'What one key used.').argument('<key>', 'its id, or its mask')), keyOptions),
    async () => (await import('./commands/usage.js')).key,
  );
  handleNamed(
    withOptions(since(within(usage, 'account', 'What the keys of an owner used.').argument('<email>')), keyOptions),
    async () => (await import('./commands/usage.js')).account,
  );
  handle(
    withOptions(
      since(within(usage, 'timeline', 'Usage over time.')).addOption(
        new Option('--by <period>', 'hour or day').choices(['hour', 'day']).default('hour'),
      ),
      keyOptions,
    ),
    async () => (await import('./commands/usage.js')).timeline,
  );
  handle(
    withOptions(
      since(
        within(usage, 'export', 'Every request, masked; v1, the export of CLIProxyAPI up to 6.9, has names in clear where they were kept.'),
        'never',
      )
        .addOption(new Option('--format <format>', 'how').choices(['jsonl', 'csv', 'v1']).default('jsonl'))
        .option('--file <path>', 'into a file, mode 0600'),
      keyOptions,
    ),
    async () => (await import('./commands/usage.js')).exportUsage,
  );
  handleNamed(
    withOptions(
      within(usage, 'import', 'Take over an export of CLIProxyAPI, records of its queue, or the database of cliproxy-access-manager.')
        .argument('<file>')
        .option('--origin <name>', 'which CLIProxyAPI they are of', 'imported'),
      keyOptions,
    ),
    async () => (await import('./commands/usage.js')).importUsage,
  );
  handle(
    withOptions(within(usage, 'backup', 'Write the sums by day into the stores of usage-backup now.'), keyOptions),
    async () => (await import('./commands/usage.js')).backup,
  );
  handle(
    withOptions(
      within(usage, 'restore', 'Take the sums by day of a backup, where the ledger has none of that day.').requiredOption(
        '--from <store>',
        'its name or URL',
      ),
      keyOptions,
    ),
    async () => (await import('./commands/usage.js')).restore,
  );
  handle(
    withOptions(within(usage, 'status', 'How usage is collected, and what is missing. Exits with 1 when something is.'), keyOptions),
    async () => (await import('./commands/usage.js')).status,
  );
  const encryption = add('encryption', 'Encrypt the documents in every store (encryption-keys).');
  handle(
    within(encryption, 'generate-key', 'Print a new key, as it is written into encryption-keys.'),
    async () => (await import('./commands/encryption.js')).generateKey,
  );
  handle(
    withOptions(
      within(encryption, 'status', 'Under which keys the documents stand. Exits with 1 when some are not under the current one.'),
      ['force', 'adopt'],
    ),
    async () => (await import('./commands/encryption.js')).status,
  );
  handle(
    withOptions(
      within(encryption, 'rotate', 'Write everything that is not under the current key anew, in the authority and its mirrors.'),
      ['force', 'adopt'],
    ),
    async () => (await import('./commands/encryption.js')).rotate,
  );
  handle(
    withOptions(add('doctor', 'Check everything that it depends on, with a remedy for what is not as it should be. Exits with 1 then.'), [
      'force',
      'adopt',
    ]),
    async () => (await import('./commands/doctor.js')).doctor,
  );
  handle(
    withOptions(add('health', 'Whether the daemon of this machine is ready, by its /readyz. Exits with 1 when it is not.')),
    async () => (await import('./commands/health.js')).health,
  );
  const service = add('service', 'Start the daemon with the session or the system, by launchd or systemd.');
  const system = '--system';
  handle(
    withOptions(
      within(service, 'install', 'Write the launchd agent or systemd unit, with the options given here, and start it.')
        .option(system, 'for the whole system, as this user (systemd; needs root)')
        .option('--print', 'only show what would be written')
        .addOption(
          new Option('--kind <kind>', 'with --print: for another kind of system')
            .choices(['launchd', 'systemd-user', 'systemd-system'])
            .implies({ print: true }),
        ),
      ['json', 'force', 'adopt'],
    ),
    async () => (await import('./commands/service.js')).install,
  );
  handle(
    withOptions(
      within(service, 'uninstall', 'Stop it and remove its file; offers to eject first. Workspace and store stay as they are.').option(
        system,
        'that of the whole system',
      ),
      ['json', 'force', 'adopt'],
    ),
    async () => (await import('./commands/service.js')).uninstall,
  );
  handle(
    within(service, 'status', 'What the service manager says of it.').option(system, 'that of the whole system'),
    async () => (await import('./commands/service.js')).status,
  );
  handle(
    within(service, 'logs', 'Follow its log.').option(system, 'that of the whole system'),
    async () => (await import('./commands/service.js')).logs,
  );
  handle(
    withOptions(
      add('try', 'First run: mirror a sample workspace, or your own if you say so, into a directory.').option(
        '--directory <path>',
        'where the sample and the store go',
        'tokenmirror-sample',
      ),
      ['json', 'workspace', 'auth-dir', 'config', 'store', 'force', 'adopt'],
    ),
    async () => (await import('./commands/try.js')).tryOut,
  );
  return program;
}
