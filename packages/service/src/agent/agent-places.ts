import { join } from 'node:path';
import type { AgentKind } from './agent-definition.js';

export interface AgentPlaces {
  readonly name: string;
  /** The plist or unit. */
  readonly file: string;
  /** Absent where the service manager keeps a journal. */
  readonly logFile?: string;
  readonly environmentFile: string;
  /** Shell commands that start it, stop it, and show how it is. */
  readonly start: readonly (readonly string[])[];
  readonly stop: readonly (readonly string[])[];
  readonly show: readonly string[];
  readonly logs: readonly string[];
}

const LABEL = 'io.tokenmirror.agent';
const UNIT = 'tokenmirror.service';

/** Where a service manager wants its files, and how it is told of them. */
export function agentPlaces(kind: AgentKind, home: string, uid: number): AgentPlaces {
  switch (kind) {
    case 'launchd': {
      const file = join(home, 'Library', 'LaunchAgents', `${LABEL}.plist`);
      const logFile = join(home, 'Library', 'Logs', 'Tokenmirror', 'tokenmirror.log');
      const domain = `gui/${String(uid)}`;
      return {
        name: LABEL,
        file,
        logFile,
        environmentFile: join(home, '.config', 'tokenmirror', 'environment'),
        start: [['launchctl', 'bootstrap', domain, file]],
        stop: [['launchctl', 'bootout', `${domain}/${LABEL}`]],
        show: ['launchctl', 'print', `${domain}/${LABEL}`],
        logs: ['tail', '-n', '200', '-F', logFile],
      };
    }
    case 'systemd-user':
    case 'systemd-system': {
      const isUser = kind === 'systemd-user';
      const scope = isUser ? ['--user'] : [];
      const systemctl = (...words: string[]): string[] => ['systemctl', ...scope, ...words];
      return {
        name: UNIT,
        file: isUser ? join(home, '.config', 'systemd', 'user', UNIT) : join('/etc/systemd/system', UNIT),
        environmentFile: isUser ? join(home, '.config', 'tokenmirror', 'environment') : '/etc/tokenmirror/environment',
        start: [systemctl('daemon-reload'), systemctl('enable', '--now', UNIT)],
        stop: [systemctl('disable', '--now', UNIT)],
        show: systemctl('status', '--no-pager', UNIT),
        logs: ['journalctl', ...scope, '--unit', UNIT, '--lines', '200', '--follow'],
      };
    }
  }
}
