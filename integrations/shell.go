package integrations

import "strings"

// ShellWord quotes one word of Credential.Command for a POSIX shell, in double
// quotes where those do.
func ShellWord(word string) string {
	if !strings.ContainsAny(word, "\"$`\\!") {
		return `"` + word + `"`
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// ShellAPI is the head of steps that are calls of an HTTP API, for people who
// have curl and nothing else. It defines "lapse METHOD PATH [JSON]", which says
// what the API answers, and "lapse_read PATH". What is not there is taken away
// already, as long as what stands at probe can be read. The login is options of
// curl as its configuration file has them, such as user = "NAME:...":
// https://curl.se/docs/manpage.html#-K
func ShellAPI(url, probe string, login ...string) string {
	probe = ShellWord(probe)
	return `# Calls the API. Write the secret of an administrator for each of the dots:
# in it, \" for ", \\ for \ and '\'' for '.
# Where its certificate is signed by an authority of your own, first: export CURL_CA_BUNDLE=FILE
lapse_api=` + ShellWord(strings.TrimSuffix(url, "/")) + `
lapse_login=` + ShellWord(strings.Join(login, "\n")) + `
lapse_read() { printf '%s\n' "$lapse_login" | curl --config - --silent --show-error --fail "$lapse_api$1"; }
lapse() {
  lapse_code=$(printf '%s\n' "$lapse_login" | curl --config - --silent --show-error --output /dev/null --write-out '%{http_code}' \
    --request "$1" --header 'Content-Type: application/json' --data-binary "${3-}" "$lapse_api$2") || return
  echo "$1 $2: $lapse_code"
  case $lapse_code in
  2*) ;;
  404) [ "$2" != ` + probe + ` ] && lapse GET ` + probe + ` ;;
  *) echo "NOT DONE: $1 $2" >&2; return 1 ;;
  esac
}
`
}

// ShellCall is one call of what ShellAPI defines. The path is escaped as in an
// address; body is JSON, or empty.
func ShellCall(method, path, body string) string {
	call := "lapse " + method + " " + ShellWord(path)
	if body != "" {
		call += " " + ShellWord(body)
	}
	return call + "\n"
}
