# Finds a Python that the agent can run with, and says whether this is an administrator.
# It changes nothing, and refuses what Windows shows in place of a Python that is not installed.

# The oldest that the agent runs with; newer ones are tried first.
$OldestPython = '3.11'
$KnownPythons = @('-3.14', '-3.13', '-3.12', '-3.11')

function Test-Administrator {
    # Whether this very window may register services; a member of the group in an ordinary window may not.
    $identity = [Security.Principal.WindowsIdentity]::GetCurrent()
    $principal = New-Object -TypeName Security.Principal.WindowsPrincipal -ArgumentList $identity
    return $principal.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)
}

function Test-Python {
    # Whether a candidate is a Python that a service can use: new enough, and not of the Microsoft Store, whose folder
    # no service can start programs from. It answers in plain letters, since a path could be garbled on the way here.
    param([string] $Program, [string[]] $First)
    # A native program that writes to standard error must not end this script.
    $ErrorActionPreference = 'Continue'
    $question = @(
        'import sys'
        'is_new = sys.version_info >= (3, 11)'
        'is_of_store = ''windowsapps'' in sys.executable.lower()'
        'print(''usable'' if is_new and not is_of_store else ''no'')'
    ) -join '; '
    $arguments = $First + @('-I', '-c', $question)
    try {
        $answer = & $Program @arguments 2>$null
    }
    catch {
        return $false
    }
    # The stub that stands for Python before one is installed answers nothing, and does not end with 0.
    return $LASTEXITCODE -eq 0 -and @($answer) -contains 'usable'
}

function Find-Python {
    # How to call the first usable Python: a program, and what comes first after it; nothing when there is none.
    foreach ($version in $KnownPythons) {
        if (Test-Python -Program 'py' -First @($version)) {
            return @('py', $version)
        }
    }
    foreach ($name in @('python', 'python3')) {
        foreach ($command in @(Get-Command -Name $name -CommandType Application -All -ErrorAction SilentlyContinue)) {
            if (Test-Python -Program $command.Source -First @()) {
                return @($command.Source)
            }
        }
    }
}

function Write-PythonMissing {
    # Say what was looked for and how to get it.
    Write-Host "No Python $OldestPython or newer was found that a service can use."
    Write-Host 'Looked for: the py launcher (py -3.14 to py -3.11), then python and python3 in PATH.'
    Write-Host 'The python of the Microsoft Store does not count: no service can be started from it. What Windows shows'
    Write-Host 'as python.exe before anything is installed is only a link to that store.'
    Write-Host 'Get one from https://www.python.org/downloads/windows/ and tick "Install Python for all users", or run'
    Write-Host '    winget install --exact --id Python.Python.3.13 --scope machine'
    Write-Host 'Then open a new PowerShell as administrator and run this again.'
}
