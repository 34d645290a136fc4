/** docs/cli.md, from the commands themselves. */
import type { Command } from 'commander';

const INTRODUCTION = `# understudy: the command line

\`understudy\` talks to the daemon of the host that it runs on, over its unix socket. Every command takes:

| option | |
|---|---|
| \`--json\` | answers as JSON, for machines: the API's resources ([rest.md](rest.md)); streams give one object a line. Errors are \`{"error": {"code", "message", "hint", "retry"}}\` |
| \`--socket PATH\` | socket of the daemon; default \`/run/understudy/understudyd.sock\`, or \`$UNDERSTUDY_SOCKET\` |

Exit codes: 0 done; 1 failed, with \`error:\` and \`hint:\` on standard error; 2 wrong usage; 3 the daemon can't be reached.
Colours only on a terminal, and never with \`NO_COLOR\`. What can't be undone asks on a terminal and needs \`--yes\`
elsewhere. What takes a while shows its steps and waits, unless \`--no-wait\`.
`;

/** The page. */
export function commandReference(program: Command): string {
  return [INTRODUCTION, ...leaves(program).map(commandText)].join('\n');
}

/** Commands that do something, in the order of the help. */
export function leaves(command: Command): Command[] {
  return command.commands.length === 0 ? [command] : command.commands.flatMap(leaves);
}

function commandText(command: Command): string {
  const rows = [
    ...command.registeredArguments.map((argument) => {
      const name = argument.required ? `<${argument.name()}>` : `[${argument.name()}]`;
      return `| \`${name}\` | ${argument.description} |`;
    }),
    ...command.options.map((option) => {
      const required = option.mandatory ? ' (required)' : '';
      const preset = typeof option.defaultValue === 'number' ? ` (default: ${option.defaultValue})` : '';
      return `| \`${option.flags}\` | ${option.description}${preset}${required} |`;
    }),
  ];
  const usage = [
    fullName(command),
    command.usage().replace('[options]', command.options.length > 0 ? '[options]' : ''),
  ];
  return [
    `## ${fullName(command).replace('understudy ', '')}\n`,
    `\`${usage.join(' ').replaceAll(/ +/g, ' ').trim()}\`\n`,
    `${command.description()}.\n`,
    ...(rows.length === 0 ? [] : ['| | |', '|---|---|', ...rows, '']),
  ].join('\n');
}

function fullName(command: Command): string {
  return command.parent === null ? command.name() : `${fullName(command.parent)} ${command.name()}`;
}
