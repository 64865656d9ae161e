// The completion scripts of the shells. They hold no words of their own: each asks the aperturectl that is being typed.

export const SHELLS = ["bash", "zsh", "fish"] as const;

export type Shell = (typeof SHELLS)[number];

// Readline breaks words at the characters of COMP_WORDBREAKS, among them the colons of an address: the line is taken apart here, and what stands before the last such
// character is taken off the answers.
const BASH = `# bash completion for aperturectl; load it with: source <(aperturectl completion bash)
_aperturectl() {
  local line=\${COMP_LINE:0:COMP_POINT} answer kind word words candidates=()
  read -ra words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  local current=\${words[\${#words[@]}-1]}
  COMPREPLY=()
  answer=$("$1" __complete "\${words[@]:1}" 2>/dev/null) || return 0
  kind=\${answer%%$'\\n'*}
  case $kind in
    words)
      while IFS=$'\\t' read -r word _; do
        [[ $word == "$current"* ]] && candidates+=("$word")
      done <<<"\${answer#*$'\\n'}"
      local shown=
      [[ $COMP_WORDBREAKS == *=* && $current == *=* ]] && shown=\${current%"\${current##*=}"}
      [[ $COMP_WORDBREAKS == *:* && $current == *:* ]] && shown=\${current%"\${current##*:}"}
      COMPREPLY=("\${candidates[@]#"$shown"}")
      ;;
    command)
      if [[ \${words[\${#words[@]}-2]} == -- ]]; then
        mapfile -t COMPREPLY < <(compgen -c -- "$current")
      else
        compopt -o default
      fi
      ;;
    file) compopt -o default ;;
  esac
}
complete -F _aperturectl aperturectl
`;

const ZSH = `#compdef aperturectl
# zsh completion for aperturectl; load it with: source <(aperturectl completion zsh), or put it as _aperturectl into a folder of $fpath
_aperturectl() {
  local -a answer candidates
  local kind
  answer=("\${(@f)$("$words[1]" __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  kind=$answer[1]
  shift answer
  case $kind in
    words)
      candidates=("\${(@)answer//:/\\\\:}")
      candidates=("\${(@)candidates/$'\\t'/:}")
      _describe aperturectl candidates
      ;;
    command)
      local -i before=\${words[(i)--]}
      shift $before words
      (( CURRENT -= before ))
      _normal
      ;;
    file) _files ;;
  esac
}
if [[ $funcstack[1] == _aperturectl ]]; then
  _aperturectl "$@"
else
  compdef _aperturectl aperturectl
fi
`;

const FISH = `# fish completion for aperturectl; load it with: aperturectl completion fish | source
function __aperturectl_complete
    set -l before (commandline -opc)
    set -l current (commandline -ct)
    set -l answer ($before[1] __complete $before[2..] "$current" 2>/dev/null)
    switch "$answer[1]"
        case words
            printf '%s\\n' $answer[2..]
        case command
            set -l at (contains -i -- -- $before)
            set -l rest $before[(math $at + 1)..] "$current"
            complete -C "$rest"
        case file
            __fish_complete_path "$current"
    end
end
complete -c aperturectl -f -a '(__aperturectl_complete)'
`;

export const COMPLETION_SCRIPTS: Readonly<Record<Shell, string>> = { bash: BASH, zsh: ZSH, fish: FISH };
