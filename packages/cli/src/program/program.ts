import { Command } from 'commander';
import { VERSION } from '@tokenmirror/service';
import { declareCustody } from './custody.js';
import { declarations } from './declare.js';
import { declareKeys } from './keys.js';
import { declareMirroring } from './mirroring.js';
import { declareOperation } from './operation.js';
import { declareUsage } from './usage.js';

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

/** Everything that the command line understands. `done` is told what to exit with. */
export function createProgram(done: (exitCode: number) => void): Command {
  const program = new Command('tokenmirror')
    .description('Mirrors the credentials and settings of CLIProxyAPI into a store, live, in both directions.')
    .version(VERSION)
    .showHelpAfterError('See `tokenmirror --help`, or `tokenmirror <command> --help`.')
    .addHelpText('after', EXAMPLES)
    .exitOverride();
  const declare = declarations(program, done);
  declareMirroring(declare);
  declareCustody(declare);
  declareKeys(declare);
  declareUsage(declare);
  declareOperation(declare);
  return program;
}
