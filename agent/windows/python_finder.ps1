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

function Read-Python {
    # Ask one candidate for its own path; $null when it is too old, or no Python at all.
    param([string] $Program, [string[]] $First)
    # A native program that writes to standard error must not end this script.
    $ErrorActionPreference = 'Continue'
    $question = 'import sys; print(sys.executable if sys.version_info >= (3, 11) else str())'
    $arguments = $First + @('-I', '-c', $question)
    try {
        $answer = & $Program @arguments 2>$null
    }
    catch {
        return $null
    }
    # The stub that stands for Python in the Microsoft Store answers nothing, and not 0.
    if ($LASTEXITCODE -ne 0 -or -not $answer) {
        return $null
    }
    $path = [string] @($answer)[-1]
    if (-not $path.Trim()) {
        return $null
    }
    return $path.Trim()
}

function Test-StorePython {
    # A Python of the Microsoft Store lives in a folder that no service can start programs from.
    param([string] $Path)
    return $Path -like '*\WindowsApps\*'
}

function Find-Python {
    # The path of the first usable Python: by the py launcher, then by name; $null when there is none.
    foreach ($version in $KnownPythons) {
        $found = Read-Python -Program 'py' -First @($version)
        if ($found -and -not (Test-StorePython -Path $found)) {
            return $found
        }
    }
    foreach ($name in @('python', 'python3')) {
        foreach ($command in @(Get-Command -Name $name -CommandType Application -All -ErrorAction SilentlyContinue)) {
            $found = Read-Python -Program $command.Source -First @()
            if ($found -and -not (Test-StorePython -Path $found)) {
                return $found
            }
        }
    }
    return $null
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
