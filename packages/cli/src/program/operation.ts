import { Option } from 'commander';
import { withOptions } from '../context.js';
import { IRRELEVANT, type Declare } from './declare.js';

/** Encryption, diagnosis, the service manager, and the first run. */
export function declareOperation({ add, within, handle }: Declare): void {
  const encryption = add('encryption', 'Encrypt the documents in every store (encryption-keys).');
  handle(
    within(encryption, 'generate-key', 'Print a new key, as it is written into encryption-keys.'),
    async () => (await import('../commands/encryption.js')).generateKey,
  );
  handle(
    withOptions(
      within(encryption, 'status', 'Under which keys the documents stand. Exits with 1 when some are not under the current one.'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/encryption.js')).status,
  );
  handle(
    withOptions(
      within(encryption, 'rotate', 'Write everything that is not under the current key anew, in the authority and its mirrors.'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/encryption.js')).rotate,
  );
  handle(
    withOptions(
      add('doctor', 'Check everything that it depends on, with a remedy for what is not as it should be. Exits with 1 then.'),
      IRRELEVANT,
    ),
    async () => (await import('../commands/doctor.js')).doctor,
  );
  handle(
    withOptions(add('health', 'Whether the daemon of this machine is ready, by its /readyz. Exits with 1 when it is not.')),
    async () => (await import('../commands/health.js')).health,
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
    async () => (await import('../commands/service.js')).install,
  );
  handle(
    withOptions(
      within(service, 'uninstall', 'Stop it and remove its file; offers to eject first. Workspace and store stay as they are.').option(
        system,
        'that of the whole system',
      ),
      ['json', 'force', 'adopt'],
    ),
    async () => (await import('../commands/service.js')).uninstall,
  );
  handle(
    within(service, 'status', 'What the service manager says of it.').option(system, 'that of the whole system'),
    async () => (await import('../commands/service.js')).status,
  );
  handle(
    within(service, 'logs', 'Follow its log.').option(system, 'that of the whole system'),
    async () => (await import('../commands/service.js')).logs,
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
    async () => (await import('../commands/try.js')).tryOut,
  );
}
