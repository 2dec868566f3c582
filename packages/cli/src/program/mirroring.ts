import { withOptions } from '../context.js';
import { IRRELEVANT, type Declare } from './declare.js';

/** The daemon, and what is done with documents. */
export function declareMirroring({ add, handle, handleNamed }: Declare): void {
  handle(
    withOptions(add('run', 'Keep the workspace, its store, mirrors and peers in sync until stopped (the daemon).'), ['json']),
    async () => (await import('../commands/run.js')).run,
  );
  handle(withOptions(add('sync', 'One pass in both directions, then exit.')), async () => (await import('../commands/sync.js')).sync);
  handle(
    withOptions(add('status', 'What is where, and whether it is well.'), IRRELEVANT),
    async () => (await import('../commands/status.js')).status,
  );
  handle(
    withOptions(add('diff', 'What a pass would do; changes nothing. Exits with 1 when there is something.'), IRRELEVANT),
    async () => (await import('../commands/diff.js')).diff,
  );
  handle(
    withOptions(add('verify', 'Compare every place with the authority, document by document. Exits with 1 when they differ.'), IRRELEVANT),
    async () => (await import('../commands/verify.js')).verify,
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
    async () => (await import('../commands/migrate.js')).migrate,
  );
  handleNamed(
    withOptions(
      add('history', 'List the kept versions of a document, or show one (secrets masked).')
        .argument('<name>', 'for example claude-me@example.com, or config')
        .option('--show <version>', 'show this version, compared with the current one')
        .option('--from <store>', 'look into this mirror instead of the authority'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/history.js')).history,
  );
  handleNamed(
    withOptions(
      add('restore', 'Bring an earlier version of a document back: its settings, or all of a deleted one.')
        .argument('<name>', 'for example claude-me@example.com, or config')
        .option('--to <version>', 'which one, from `tokenmirror history` (default: the newest)')
        .option('--from <store>', 'from this mirror: what it holds now, or with --to one of its versions')
        .option('--grant', 'the old tokens too, which are usually dead; asks first')
        .option('--yes', 'do not ask'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/restore.js')).restore,
  );
}
