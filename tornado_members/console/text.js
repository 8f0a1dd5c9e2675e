/** Every text that users read, in English. A translation is another file with the same keys. */

const LANGUAGE = "en";
const number = new Intl.NumberFormat(LANGUAGE);
const time = new Intl.DateTimeFormat(LANGUAGE, { dateStyle: "medium", timeStyle: "medium" });
const date = new Intl.DateTimeFormat(LANGUAGE, { dateStyle: "long", timeZone: "UTC" });
const relative = new Intl.RelativeTimeFormat(LANGUAGE, { numeric: "auto" });

/** @param {number} n @param {string} one @param {string} [many] */
const count = (n, one, many = `${one}s`) => `${number.format(n)} ${n === 1 ? one : many}`;

/** @param {number} n */
export const formatNumber = (n) => number.format(n);
/** @param {string} iso */
export const formatTime = (iso) => time.format(new Date(iso));
/** @param {string} iso A day, without a time. */
export const formatDate = (iso) => date.format(new Date(`${iso}T00:00:00Z`));

/** Return a relative time, such as "2 hours ago". @param {string} iso @param {number} [now] */
export function formatAge(iso, now = Date.now()) {
  const seconds = Math.round((new Date(iso).getTime() - now) / 1000);
  const units = /** @type {const} */ ([
    ["day", 86400],
    ["hour", 3600],
    ["minute", 60],
  ]);
  for (const [unit, length] of units) {
    if (Math.abs(seconds) >= length) return relative.format(Math.trunc(seconds / length), unit);
  }
  return relative.format(seconds, "second");
}

export const text = {
  language: LANGUAGE,
  skip: "Skip to the content",
  close: "Close",
  cancel: "Cancel",
  save: "Save",
  saving: "Saving…",
  retry: "Try again",
  none: "Not given",
  yes: "Yes",
  no: "No",
  notAnswered: "Not answered",
  optional: "optional",

  nav: { label: "Sections", members: "Members", import: "Import", users: "Users", status: "Status" },

  account: {
    label: "Account",
    signedInAs: "Signed in as",
    timeLeft: (/** @type {number} */ minutes) =>
      minutes < 1 ? "less than a minute left" : `${count(minutes, "minute")} left`,
    expired: "expired",
    renew: "Renew",
    signOut: "Sign out",
    shortcuts: "Keyboard shortcuts",
    appearance: "Appearance",
    themes: { auto: "System", light: "Light", dark: "Dark" },
    may: {
      "members:read": "read",
      "members:write": "change",
      "members:delete": "delete and administer",
      "members:read:own": "read own record",
      "members:write:own": "change own record",
    },
    mayNothing: "This token grants no permissions. Ask an administrator.",
  },

  signIn: {
    title: "Sign in",
    lead: "Use the account that your administrator gave you.",
    username: "Username",
    password: "Password",
    token: "Token",
    tokenHelp: "A JSON Web Token of a trusted issuer, with or without “Bearer”.",
    keep: "Stay signed in for this session",
    keepHelp: "The token is kept in this tab until you close it. Otherwise you sign in again after a reload.",
    submit: "Sign in",
    busy: "Signing in…",
    useToken: "Use a token instead",
    usePassword: "Use a password instead",
    again: "Your session has expired",
    againLead: "Sign in again to continue. Nothing that you entered is lost.",
    renewTitle: "Renew the session",
    failed: "The username or the password is wrong.",
    tooMany: (/** @type {number} */ seconds) =>
      `There were too many attempts. Try again in ${count(seconds, "second")}.`,
    blocked: "This user is blocked. Ask an administrator.",
    badToken: "This token is not accepted. It may have expired, or be meant for another service.",
    missing: "This field is required.",
  },

  list: {
    title: "Members",
    search: "Search members",
    searchHint: "Name or e-mail",
    searchHintName: "Beginning of a name",
    shortcut: "/",
    add: "Add member",
    export: "Export",
    filters: "Filters",
    filtersActive: (/** @type {number} */ n) => `Filters (${n})`,
    clear: "Clear all",
    apply: "Apply",
    any: "Any",
    prefix: "Name begins with",
    count: "Count",
    counted: (/** @type {number} */ n) => count(n, "member"),
    sort: "Sort by",
    perPage: "Per page",
    sorts: /** @type {Record<string, string>} */ ({
      memberId: "Oldest first",
      "-memberId": "Newest first",
      name: "Name, A to Z",
      "-name": "Name, Z to A",
    }),
    loading: "Loading members…",
    shown: (/** @type {number} */ n, /** @type {number} */ page) =>
      n === 0 ? "No members" : `${count(n, "member")} on page ${page}`,
    next: "Next page",
    previous: "Previous page",
    first: "First page",
    empty: "There are no members yet",
    emptyHelp: "Add the first one, or import a file.",
    nothing: "No member matches",
    nothingHelp: "Check the spelling, or search for fewer words.",
    created: (/** @type {number} */ n) => `Show ${count(n, "new member")}`,
    deleted: "deleted",
    changed: "changed",
    live: "Live",
    notLive: "Not live: reconnecting…",
  },

  member: {
    loading: "Loading the member…",
    edit: "Edit",
    delete: "Delete",
    back: "Close the member",
    id: "Member",
    version: (/** @type {number} */ n) => `Version ${formatNumber(n)}`,
    saved: (/** @type {string} */ name) => `${name} was saved.`,
    unchanged: "Nothing was changed.",
    added: (/** @type {string} */ name) => `${name} was added.`,
    removed: (/** @type {string} */ name) => `${name} was deleted.`,
    missing: "This member does not exist",
    missingHelp: "It may have been deleted. Its id is never used again.",
    deletedLive: "This member was deleted just now.",
    changedLive: "This member was changed just now.",
    changedWhileEditing:
      "Somebody else has just changed this member. You will see both versions when you save.",
    attributes: "More details",
    empty: (/** @type {string} */ names) => `Not given: ${names}`,
  },

  form: {
    addTitle: "Add a member",
    editTitle: (/** @type {string} */ name) => `Edit ${name}`,
    add: "Add",
    adding: "Adding…",
    faults: (/** @type {number} */ n) => `${count(n, "entry needs", "entries need")} your attention.`,
    taken: "This name is taken by another member.",
    takenLink: "Show that member",
    listHelp: "One per line.",
    yourTime: "In your local time.",
    lost: "The connection was lost, so it is unknown whether this was saved. Your entries are kept. Save again to find out.",
    failed: "This was not saved.",
    discard: "Discard your changes?",
    discardHelp: "You have unsaved changes.",
    discardYes: "Discard",
    discardNo: "Keep editing",
  },

  conflict: {
    title: "Somebody else changed this member",
    lead: "For each field, choose the value to keep. Then save.",
    before: "Before",
    theirs: "Theirs",
    mine: "Yours",
    save: "Save these values",
    same: "Both of you made the same change",
  },

  deletion: {
    title: (/** @type {string} */ name) => `Delete ${name}?`,
    lead: "This cannot be undone. The id is never used again.",
    type: "Type the name to confirm",
    submit: "Delete permanently",
    busy: "Deleting…",
    changed: "The member has changed since you opened it. Review it before you delete it.",
  },

  history: {
    title: "History",
    loading: "Loading the history…",
    empty: "No changes recorded.",
    more: "Earlier changes",
    kinds: /** @type {Record<string, string>} */ ({
      created: "Created",
      changed: "Changed",
      replaced: "Replaced",
      deleted: "Deleted",
    }),
    by: "by",
    someone: "another program",
    before: "Before",
    after: "After",
    nothing: "no value",
  },

  import: {
    title: "Import members",
    lead: "Import a CSV or Excel file, vCards, LDIF or JSON. You see a preview first. Nothing is written until you confirm.",
    drop: "Drop a file here, or choose one",
    choose: "Choose a file",
    other: "Choose another file",
    reading: "Reading the file. Nothing is written yet.",
    writing: "Importing…",
    progress: "Progress",
    stop: "Stop",
    stopped: "The import was stopped. Rows that were already imported are kept.",
    columns: "Columns of the file",
    notRead: "Not in the file",
    automatic: "Automatic",
    ignored: "Ignored columns",
    conflicts: "If a member with the same name and different values exists",
    policies: { reject: "Refuse the row", skip: "Keep the member as it is", replace: "Replace the member" },
    check: "Preview again",
    run: (/** @type {number} */ n) => `Import ${count(n, "member")}`,
    nothingToDo: "There is nothing to import",
    wouldTitle: "Preview",
    didTitle: "Import complete",
    outcomes: /** @type {Record<string, string>} */ ({
      created: "added",
      replaced: "replaced",
      unchanged: "unchanged",
      skipped: "kept as they are",
      refused: "refused",
    }),
    reasons: "Refused rows, by reason",
    reason: "Reason",
    rows: "Rows",
    lines: (/** @type {number} */ n, /** @type {string} */ lines) =>
      n === 1 ? `line ${lines}` : `lines ${lines}`,
    taken: "The name is taken by a member with different values",
    takenInFile: "The name occurs earlier in the file",
    rejects: "Download the refused rows",
    rejectsHelp: "Correct the rows in that file, then import it.",
    unreadable: "No row of this file can be read",
    incomplete:
      "The response ended early, so the result is incomplete. Import the file again: rows that are already imported change nothing.",
    done: "Show the members",
  },

  export: {
    title: "Export members",
    all: "All members are exported.",
    filtered: "The members that match your search and filters are exported.",
    csv: "CSV, for programs",
    sheet: "CSV for spreadsheets, with commas",
    sheetSemicolon: "CSV for spreadsheets, with semicolons",
    sheetHelp: "Choose semicolons if your country uses a decimal comma.",
    ndjson: "NDJSON, one JSON object per line",
    format: "Format",
    submit: "Export",
    busy: (/** @type {string} */ size) => `Downloading… ${size}`,
    done: "The export is complete.",
    broken: "The download was interrupted. Nothing was saved.",
  },

  users: {
    title: "Users",
    lead: "People who sign in here by username and password.",
    add: "Add user",
    loading: "Loading users…",
    empty: "There are no users",
    emptyHelp: "Add one, so that people can sign in by password.",
    username: "Username",
    password: "Password",
    newPassword: "New password",
    passwordHelp: "At least 8 characters.",
    rights: "Rights",
    rightsNames: ["None", "Read", "Read and change", "Read, change, delete and administer"],
    member: "Own member",
    memberHelp: "The id of the member that this user may always see and change.",
    memberNone: "None",
    actions: "Actions",
    edit: "Edit",
    remove: "Remove",
    removeTitle: (/** @type {string} */ name) => `Remove ${name}?`,
    removeLead: "The user is signed out within a second. Members are not affected.",
    addTitle: "Add a user",
    editTitle: (/** @type {string} */ name) => `Edit ${name}`,
    keepPassword: "Leave empty to keep the password.",
    saved: (/** @type {string} */ name) => `${name} was saved.`,
    removed: (/** @type {string} */ name) => `${name} was removed.`,
    taken: "This username is taken.",
    you: "you",
    more: "Show more",
  },

  status: {
    title: "Status",
    loading: "Loading the status…",
    states: /** @type {Record<string, string>} */ ({
      ready: "Everything works",
      degraded: "Working with limitations",
      unready: "Not ready",
      draining: "Stopping",
      ok: "ok",
    }),
    dependencies: "Dependencies",
    dependency: "Dependency",
    state: "State",
    detail: "Detail",
    figures: "Last five minutes",
    requests: "Requests per second",
    hits: "Cache hit ratio",
    latency: "99th percentile of latency",
    noValue: "no data yet",
    ms: (/** @type {number} */ seconds) =>
      seconds >= 1 ? `${seconds.toFixed(1)} s` : `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`,
    percent: (/** @type {number} */ ratio) => `${Math.round(ratio * 100)} %`,
    rate: (/** @type {number} */ n) => (n < 10 ? n.toFixed(1) : String(Math.round(n))),
    between: (/** @type {string} */ low, /** @type {string} */ high) => `between ${low} and ${high}`,
    workers: (/** @type {number} */ n) => count(n, "worker"),
  },

  shortcuts: {
    title: "Keyboard shortcuts",
    single: "Enable single-key shortcuts",
    rows: [
      ["/", "Search"],
      ["↑ ↓", "Previous or next member of the list"],
      ["Enter", "Open the member"],
      ["Esc", "Close the member, the form or the dialog"],
      ["n", "Add a member"],
      ["e", "Edit the open member"],
      ["?", "Show the shortcuts"],
    ],
  },

  errors: {
    title: "Something went wrong",
    offline: "The service cannot be reached.",
    offlineHelp: "Check your connection. The console retries automatically.",
    online: "The service is reachable again.",
    forbidden: "You do not have permission for this",
    forbiddenHelp: "Ask an administrator if you need it.",
    busy: "The service is busy or cannot reach its database. Try again in a moment.",
    request: (/** @type {string} */ id) => `Request ${id}`,
  },

  fields: /** @type {Record<string, string>} */ ({
    name: "Name",
    email: "E-mail",
    phone: "Phone",
    memberId: "Id",
  }),
};

/** Return the label of a field: its text, or its name split into words. @param {string} key */
export function labelOf(key) {
  if (Object.hasOwn(text.fields, key)) return text.fields[key];
  const words = key
    .replace(/^attributes\./, "")
    .replace(/[_-]+/g, " ")
    .replace(/([a-z])([A-Z])/g, "$1 $2");
  return words.charAt(0).toUpperCase() + words.slice(1);
}
