import { environmentOf, OPTION_NAMES, optionSpec, type OptionSpec } from './option-table.js';

const SYNTAX: Readonly<Record<OptionSpec['type'], string>> = {
  path: 'path',
  text: 'text',
  url: 'address: `http://127.0.0.1:8317`',
  flag: 'true or false',
  duration: 'duration: `250ms`, `10s`, `2m`, `1h`',
  days: 'time, such as 12h, 3d or 2w',
  size: 'size: `512KiB`, `1MiB`',
  count: 'whole number, 1 to 1000',
  ids: 'numbers, separated by commas',
  names: 'names, separated by commas',
  paths: 'paths, separated by commas',
  addressing: '`auto`, `path`, `virtual`',
  custody: '`auto`, `on`, `off`',
  listen: '`127.0.0.1:8318`, `:8318`, `off`',
  'notify-format': '`auto`, `json`, `slack`',
  switch: '`yes`, `no`',
  'log-level': '`debug`, `info`, `warn`, `error`',
  'log-format': '`auto`, `pretty`, `json`',
};

/** The options as Markdown tables, one per group. */
export function renderReference(): string {
  const groups = [...new Set(OPTION_NAMES.map((name) => optionSpec(name).group))];
  return groups
    .map((group) => {
      const rows = OPTION_NAMES.filter((name) => optionSpec(name).group === group).map((name) => {
        const spec = optionSpec(name);
        const fallback =
          spec.type === 'flag' ? '`false`' : spec.default === undefined ? (spec.defaultNote ?? 'none') : `\`${spec.default}\``;
        const variables = environmentOf(name).map((variable) => `\`${variable}\``);
        const flag = spec.secret === true ? 'not on the command line' : `\`--${name}\``;
        return `| \`${name}\` | ${flag} | ${variables.join(', ')} | ${SYNTAX[spec.type]} | ${fallback} | ${spec.description} |`;
      });
      return [
        `### ${group}`,
        '',
        '| option | flag | environment | value | default | what it is |',
        '|---|---|---|---|---|---|',
        ...rows,
      ].join('\n');
    })
    .join('\n\n');
}
