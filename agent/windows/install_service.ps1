<#
.SYNOPSIS
Installs the RECO3 agent as the Windows service RECO3Agent, or brings an installed one up to date.

.DESCRIPTION
Finds a Python 3.11 or newer and hands everything over to agent\common\install.py, which does the work and prints each
step. A config that is already there is kept. It refuses to run without an administrator's rights.
README_windows.md tells what is installed, and what has never been run.

.PARAMETER ApiKey
The key that the server knows this PC by; - reads it from standard input, so that no history keeps it.

.PARAMETER BaseUrl
The server's address; https:// unless it is this very PC.

.PARAMETER AgentId
This PC's name: 1 to 64 letters, digits and . _ -

.PARAMETER ApiKeyFile
A file with the key, in place of -ApiKey; - reads standard input.

.PARAMETER TokenFile
A file with an enrolment token, in place of a key; - reads standard input.

.PARAMETER ApproverFile
Files with keys of approvers to pin, one a line as `reco3 agent trust add` takes them.

.PARAMETER ApprovalsRequired
How many distinct owners must sign a strong command.

.PARAMETER AllowInsecureHttp
Let the server be plain http:// on another machine; anyone on the way can then read the key and forge orders.

.PARAMETER Wheels
A folder with the packages, for a PC without internet.

.PARAMETER DryRun
Print every step and change nothing.

.PARAMETER NoStart
Register the service without starting it.

.EXAMPLE
.\install_service.ps1 -ApiKey devkey -BaseUrl http://127.0.0.1:5001 -AgentId pc-001

.EXAMPLE
Get-Content token.txt | .\install_service.ps1 -TokenFile - -BaseUrl https://reco3.example.com -AgentId pc-001
#>
[CmdletBinding()]
param(
    [Parameter(Position = 0)] [string] $ApiKey,
    [Parameter(Position = 1)] [ValidatePattern('^[^\s"\\]*$')] [string] $BaseUrl,
    [Parameter(Position = 2)] [ValidatePattern('^[A-Za-z0-9._-]*$')] [string] $AgentId,
    [string] $ApiKeyFile,
    [string] $TokenFile,
    [string[]] $ApproverFile = @(),
    [ValidateRange(0, 100)] [int] $ApprovalsRequired = 0,
    [string] $Wheels,
    [switch] $AllowInsecureHttp,
    [switch] $DryRun,
    [switch] $NoStart,
    # What is piped to this script goes on to the installer's standard input, for "-".
    [Parameter(ValueFromPipeline = $true, DontShow = $true)] [AllowEmptyString()] [string] $PipedLine
)

begin {
    Set-StrictMode -Version 3.0
    $ErrorActionPreference = 'Stop'
    . (Join-Path -Path $PSScriptRoot -ChildPath 'python_finder.ps1')
    $piped = New-Object -TypeName System.Collections.Generic.List[string]
}

process {
    if ($PSBoundParameters.ContainsKey('PipedLine')) {
        $piped.Add($PipedLine)
    }
}

end {
    function Format-Path {
        # An absolute path without a backslash at its end, which Windows PowerShell would let swallow a quote.
        param([string] $Path)
        if ($Path -eq '-') {
            return $Path
        }
        $full = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($Path)
        if ($full.Length -le 3) {
            return $full
        }
        return $full.TrimEnd('\')
    }

    if (-not $DryRun -and -not (Test-Administrator)) {
        Write-Host 'This must be run as administrator: it registers a service that runs as SYSTEM, and lets nobody else'
        Write-Host 'read its key. Open the start menu, type PowerShell, choose "Run as administrator", and run the same'
        Write-Host 'line again. To see what would be done without changing anything, add -DryRun.'
        exit 1
    }
    $secrets = @(@($ApiKey, $ApiKeyFile, $TokenFile) | Where-Object -FilterScript { $_ })
    if ($secrets.Count -ne 1 -or -not $BaseUrl) {
        Write-Host 'Expected -BaseUrl, and one of -ApiKey, -ApiKeyFile and -TokenFile, as in'
        Write-Host '    .\install_service.ps1 -ApiKey - -BaseUrl https://reco3.example.com -AgentId pc-001'
        Write-Host 'Get-Help .\install_service.ps1 -Detailed tells more.'
        exit 2
    }
    $python = @(Find-Python)
    if ($python.Count -eq 0) {
        Write-PythonMissing
        exit 1
    }
    $program = $python[0]
    $first = @($python | Select-Object -Skip 1)

    $installer = Join-Path -Path (Split-Path -Path $PSScriptRoot -Parent) -ChildPath 'common\install.py'
    # An array, element by element: PowerShell quotes what has spaces, and nothing is ever put into a string.
    $arguments = $first + @('-I', $installer, 'windows', 'install')
    if ($TokenFile) { $arguments += @('--token-file', (Format-Path -Path $TokenFile)) }
    if ($ApiKeyFile) { $arguments += @('--key-file', (Format-Path -Path $ApiKeyFile)) }
    foreach ($file in $ApproverFile) { $arguments += @('--approver-file', (Format-Path -Path $file)) }
    if ($ApprovalsRequired -gt 0) { $arguments += @('--approvals-required', [string] $ApprovalsRequired) }
    if ($Wheels) { $arguments += @('--wheels', (Format-Path -Path $Wheels)) }
    if ($AllowInsecureHttp) { $arguments += '--allow-insecure-http' }
    if ($DryRun) { $arguments += '--dry-run' }
    if ($NoStart) { $arguments += '--no-start' }

    # Secrets travel by standard input alone: other people on the PC may see the arguments of running programs.
    $OutputEncoding = New-Object -TypeName System.Text.UTF8Encoding -ArgumentList $false
    $isTyped = $ApiKey -and $ApiKey -ne '-'
    if ($ApiKey) { $arguments += @('--key-file', '-') }
    $arguments += $BaseUrl
    if ($AgentId) { $arguments += $AgentId }
    $ErrorActionPreference = 'Continue'
    if ($isTyped) {
        $ApiKey | & $program @arguments
    }
    elseif ($piped.Count -gt 0) {
        $piped | & $program @arguments
    }
    else {
        & $program @arguments
    }
    exit $LASTEXITCODE
}
