import type { Command } from 'commander';

export type Handler = (command: Command) => Promise<number>;
export type NamedHandler = (name: string, command: Command) => Promise<number>;

/** Options without a meaning for a command that changes no document. */
export const IRRELEVANT = ['force', 'adopt'] as const;

/** How commands are declared. They load their code only when they are called, so that starting is fast. */
export interface Declare {
  readonly add: (name: string, description: string) => Command;
  readonly within: (parent: Command, name: string, description: string) => Command;
  readonly handle: (command: Command, load: () => Promise<Handler>) => void;
  /** For a command whose first argument is a name. */
  readonly handleNamed: (command: Command, load: () => Promise<NamedHandler>) => void;
}

/** `done` is told what to exit with. */
export function declarations(program: Command, done: (exitCode: number) => void): Declare {
  const within = (parent: Command, name: string, description: string): Command => {
    const path = [...(parent === program ? [] : [parent.name()]), name].join(' ');
    return parent.command(name).description(description).exitOverride().showHelpAfterError(`See \`tokenmirror ${path} --help\`.`);
  };
  return {
    within,
    add: (name, description) => within(program, name, description),
    handle: (command, load) => {
      command.action(async () => {
        done(await (await load())(command));
      });
    },
    handleNamed: (command, load) => {
      command.action(async (name: string) => {
        done(await (await load())(name, command));
      });
    },
  };
}
