import { withOptions } from '../context.js';
import { IRRELEVANT, type Declare } from './declare.js';

/** Who may hold refresh tokens, and the replicas. */
export function declareCustody({ add, within, handle, handleNamed }: Declare): void {
  const custody = add('custody', 'Who may hold refresh tokens, and what to do when nobody may.');
  handle(
    withOptions(within(custody, 'status', 'Alone or shared; and for each credential when it is due, and who holds its claim.'), IRRELEVANT),
    async () => (await import('../commands/custody.js')).status,
  );
  handleNamed(
    withOptions(
      within(custody, 'refresh', 'Ask for a refresh before its time, for example because the access token died.').argument('<credential>'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/custody.js')).refresh,
  );
  handle(
    withOptions(within(custody, 'share', 'Share again after an eject: every replica may refresh.'), IRRELEVANT),
    async () => (await import('../commands/custody.js')).share,
  );
  handleNamed(
    withOptions(
      within(custody, 'takeover', 'Take a refresh token from a replica that does not come back. Asks first.')
        .argument('<credential>')
        .option('--yes', 'do not ask'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/custody.js')).takeover,
  );
  const replicas = add('replicas', 'The replicas of this store.');
  handle(
    withOptions(within(replicas, 'list', 'Every replica, when it was seen, and what it holds.'), IRRELEVANT),
    async () => (await import('../commands/custody.js')).list,
  );
  handleNamed(
    withOptions(
      within(replicas, 'dismiss', 'Forget a replica that is gone for good, and free what it held. Asks first.')
        .argument('<replica>')
        .option('--yes', 'do not ask'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/custody.js')).dismiss,
  );
  handle(
    withOptions(
      add('eject', 'End sharing: one replica holds every refresh token, and its files are whole again. Asks first.')
        .option('--to <replica>', 'which one, from `tokenmirror replicas list` (default: the one of this workspace)')
        .option('--dry-run', 'only tell what would happen')
        .option('--yes', 'do not ask'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/custody.js')).eject,
  );
}
