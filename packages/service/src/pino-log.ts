import { pino, type DestinationStream } from 'pino';
import type { Log } from '@tokenmirror/core';
import type { Settings } from './options/settings.js';
import { redactionOf } from './redaction.js';

/** A log whose level can be changed while it is written. */
export interface LeveledLog extends Log {
  setLevel(level: Settings['log-level']): void;
}

/** A log to standard error: pretty on a terminal, JSON lines elsewhere. No line leaves with a secret in it, whoever wrote it. */
export async function createLog(settings: Settings, output: NodeJS.WriteStream = process.stderr): Promise<LeveledLog> {
  const format = settings['log-format'];
  const isPretty = format === 'pretty' || (format === 'auto' && output.isTTY);
  const redact = redactionOf(settings);
  const written: DestinationStream = isPretty ? await prettyStream(output) : { write: (line) => void output.write(line) };
  const destination: DestinationStream = {
    write: (line) => {
      written.write(redact(line));
    },
  };
  const logger = pino(
    {
      level: settings['log-level'],
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination,
  );
  const at =
    (level: 'debug' | 'info' | 'warn' | 'error'): Log['info'] =>
    (event, details) => {
      logger[level](details ?? {}, event);
    };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    setLevel: (level) => {
      logger.level = level;
    },
  };
}

async function prettyStream(output: NodeJS.WriteStream): Promise<DestinationStream> {
  const { default: pretty } = await import('pino-pretty');
  const colorize = process.env['NO_COLOR'] === undefined && output.isTTY;
  return pretty({ colorize, destination: output, translateTime: 'SYS:HH:MM:ss', ignore: 'level', sync: true });
}
