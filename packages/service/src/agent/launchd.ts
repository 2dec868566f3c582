import { build } from 'plist';
import { join } from 'node:path';
import { argumentsOf, type AgentDefinition } from './agent-definition.js';

/** How long a stop may take before launchd kills, in seconds. */
const EXIT_TIMEOUT_S = 20;

/** A LaunchAgent that starts with the session and is started again when it ends. */
export function launchdPlist(agent: AgentDefinition): string {
  const { name, node, workingDirectory, home, logFile, environmentFile } = agent;
  return `${build({
    Label: name,
    ProgramArguments: [...argumentsOf(agent)],
    WorkingDirectory: workingDirectory,
    EnvironmentVariables: {
      HOME: home,
      PATH: `${join(node, '..')}:/usr/bin:/bin:/usr/sbin:/sbin`,
      TOKENMIRROR_ENVIRONMENT_FILE: environmentFile,
    },
    RunAtLoad: true,
    KeepAlive: true,
    ThrottleInterval: 10,
    ExitTimeOut: EXIT_TIMEOUT_S,
    ProcessType: 'Background',
    Umask: 0o077,
    ...(logFile === undefined ? {} : { StandardOutPath: logFile, StandardErrorPath: logFile }),
  })}\n`;
}
