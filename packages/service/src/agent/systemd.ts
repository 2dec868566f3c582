import { join } from 'node:path';
import { argumentsOf, type AgentDefinition } from './agent-definition.js';

/** A unit for the user's or the system's service manager, with as few rights as it can do with. */
export function systemdUnit(agent: AgentDefinition, scope: 'user' | 'system'): string {
  const { node, workingDirectory, environmentFile, home, user } = agent;
  const lines = [
    '[Unit]',
    'Description=Tokenmirror: keeps the credentials of CLIProxyAPI in a store',
    'Documentation=https://www.npmjs.com/package/tokenmirror',
    'Wants=network-online.target',
    'After=network-online.target',
    'StartLimitIntervalSec=0',
    '',
    '[Service]',
    'Type=exec',
    `ExecStart=${argumentsOf(agent).map(quoted).join(' ')}`,
    `WorkingDirectory=${pathText(workingDirectory)}`,
    `Environment=${quoted(`HOME=${home}`)} ${quoted(`PATH=${join(node, '..')}:/usr/local/bin:/usr/bin:/bin`)}`,
    `EnvironmentFile=-${pathText(environmentFile)}`,
    ...(user === undefined ? [] : [`User=${user}`]),
    'Restart=always',
    'RestartSec=5',
    'TimeoutStopSec=20',
    'KillSignal=SIGTERM',
    'UMask=0077',
    'NoNewPrivileges=yes',
    'LockPersonality=yes',
    'RestrictRealtime=yes',
    'RestrictSUIDSGID=yes',
    'RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK',
    'SystemCallArchitectures=native',
    ...(scope === 'user'
      ? []
      : [
          'PrivateTmp=yes',
          'PrivateDevices=yes',
          'ProtectSystem=full',
          'ProtectKernelTunables=yes',
          'ProtectKernelModules=yes',
          'ProtectControlGroups=yes',
          ...(user === 'root' ? [] : ['CapabilityBoundingSet=']),
        ]),
    '',
    '[Install]',
    `WantedBy=${scope === 'user' ? 'default.target' : 'multi-user.target'}`,
  ];
  return `${lines.join('\n')}\n`;
}

/** A word of a unit file: `%` stands for itself, quotes and backslashes are escaped, `$` is no variable. */
function quoted(word: string): string {
  const text = word.replaceAll('%', '%%').replaceAll('$', () => '$$');
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `"${text.replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`;
}

/** A setting that is one path to the end of its line. */
function pathText(path: string): string {
  return path.replaceAll('%', '%%');
}
